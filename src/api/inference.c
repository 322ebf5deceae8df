/*
 * The forwarding routes: which member names the model, what bounds the prompt, where at the worker they go. Adding a route that is forwarded is one row here and
 * one in tables/routes.def.
 */
#include "gate/forwards.h"
#include "gate/handlers.h"

static const struct {
	enum tg_step (*handler)(struct tg_exchange *x);
	struct tg_forward how;
} forwards[] = {
	{ tg_api_chat, { .model_member = "model", .prompt_member = "messages", .path = "/v1/chat/completions", .strict_type = true } },
	{ tg_api_completions, { .model_member = "model", .prompt_member = "prompt", .path = "/v1/completions", .strict_type = true } },
	{ tg_api_embeddings, { .model_member = "model", .prompt_member = "input", .path = "/v1/embeddings", .strict_type = true, .embeds = true } },
	/* 001's curl lines send JSON; a client that forgets to say so is understood all the same (S1-26). */
	{ tg_api_infer, { .model_member = "model_name", .prompt_member = "request_body", .path = "/v1/chat/completions", .translates = true } },
	{ tg_api_inference, { .model_member = "model", .prompt_member = "prompt", .path = "/v1/chat/completions", .strict_type = true, .translates = true } },
};

const struct tg_forward *tg_forward_of(const struct tg_route *r)
{
	/* By address: the handlers of forwarding rows are these five, and a comparison of names a request would be wasted. */
	for (size_t i = 0; i < sizeof forwards / sizeof forwards[0]; i++)
		if (r->handle == forwards[i].handler)
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
