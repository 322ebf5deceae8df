"""A client of Tollgate's train and predict routes.

    from tollgate_client import TollgateClient

    with TollgateClient("http://127.0.0.1:9001", api_key="sk_ml_train_abc123") as gate:
        model = gate.train(frame, target="disease_cases")
        print(gate.predict(model, future))
"""
from .client import Job, Model, TollgateClient
from .errors import (AuthenticationError, ConflictError, JobCanceled, JobFailed, NotFoundError, PermissionDeniedError, RateLimitedError, ServerError,
                     TollgateError, UnavailableError, ValidationError)

__all__ = ["TollgateClient", "Job", "Model", "TollgateError", "AuthenticationError", "PermissionDeniedError", "NotFoundError", "ConflictError",
           "ValidationError", "RateLimitedError", "UnavailableError", "ServerError", "JobFailed", "JobCanceled"]
