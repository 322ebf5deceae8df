/*
 * The forwarding routes: which member names the model, what bounds the prompt, where at the worker they go. Adding a route that is forwarded is one row here and
 * one in tables/routes.def.
 */
#include "gate/forwards.h"
#include "gate/handlers.h"

static const struct {
	const char *handler;
	struct tg_forward how;
} forwards[] = {
	{ "chat", { .model_member = "model", .prompt_member = "messages", .path = "/v1/chat/completions", .strict_type = true } },
	{ "completions", { .model_member = "model", .prompt_member = "prompt", .path = "/v1/completions", .strict_type = true } },
	{ "embeddings", { .model_member = "model", .prompt_member = "input", .path = "/v1/embeddings", .strict_type = true } },
	/* 001's curl lines send JSON; a client that forgets to say so is understood all the same (S1-26). */
	{ "infer", { .model_member = "model_name", .prompt_member = "request_body", .path = "/v1/chat/completions", .translates = true } },
	{ "inference", { .model_member = "model", .prompt_member = "prompt", .path = "/v1/chat/completions", .strict_type = true, .translates = true } },
};

const struct tg_forward *tg_forward_of(const struct tg_route *r)
{
	/* Only POST rows are forwarded; the others need no look. */
	for (size_t i = 0; r->method == TG_POST && i < sizeof forwards / sizeof forwards[0]; i++)
		if (strcmp(r->handler, forwards[i].handler) == 0)
			return &forwards[i].how;
	return NULL;
}

enum tg_step tg_api_chat(struct tg_exchange *x)
{
	return tg_forward_start(x);
}

enum tg_step tg_api_completions(struct tg_exchange *x)
{
	return tg_forward_start(x);
}

enum tg_step tg_api_embeddings(struct tg_exchange *x)
{
	return tg_forward_start(x);
}

enum tg_step tg_api_infer(struct tg_exchange *x)
{
	return tg_forward_start(x);
}

enum tg_step tg_api_inference(struct tg_exchange *x)
{
	return tg_forward_start(x);
}
