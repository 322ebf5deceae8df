"""
Document 003's example as a service of chapkit's public API, for tests/bench/ml.py to measure beside Tollgate: linear regression of the last column on the others. Run by uvicorn in a folder of its own;
chapkit itself is installed by the benchmark and no part of this repository.
"""
import numpy
from chapkit import ArtifactHierarchy, BaseConfig, FunctionalModelRunner
from chapkit.api import MLServiceBuilder, MLServiceInfo
from servicekit import Base, SqliteDatabase
from sklearn.linear_model import LinearRegression


class Config(BaseConfig):
    pass


class Database(SqliteDatabase):
    """What the package migrates with is not shipped with this release: tables are made from its models instead."""

    async def init(self):
        await super().init()
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)


async def train(config, data, geo=None):
    cells = numpy.array(data.data, dtype=float)
    return LinearRegression().fit(cells[:, :-1], cells[:, -1])


async def predict(config, model, historic, future, geo=None):
    values = model.predict(numpy.array(future.data, dtype=float))
    return future.add_column("sample_0", [float(v) for v in values])


app = (
    MLServiceBuilder(
        info=MLServiceInfo(display_name="bench"),
        config_schema=Config,
        hierarchy=ArtifactHierarchy(name="bench", level_labels={0: "ml_training", 1: "ml_prediction"}),
        runner=FunctionalModelRunner(on_train=train, on_predict=predict),
    )
    .with_database(Database("sqlite+aiosqlite:///service.db", auto_migrate=False))
    .with_auth(env_var="CHAPKIT_API_KEYS")
    .build()
)
