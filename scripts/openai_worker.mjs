// openai_worker.mjs: a small language model behind OpenAI's API, over node-llama-cpp (a prebuilt llama.cpp). The model worker of `make llm`.
//   node openai_worker.mjs --model FILE.gguf --port N [--host 127.0.0.1] [--name NAME] [--modules DIR] [--slots 2] [--context 2048] [--threads N]
// GET /health (503 while the model loads), GET /v1/models, POST /v1/chat/completions, POST /v1/completions; both plain and streamed.
// Invariants: at most `slots` generations at once, at most `waitingMax` requests wait; a client that leaves ends its generation and
// gives its slot back; usage is counted in real tokens and streamed only where stream_options.include_usage asks for it.
// Threads: half the cores. llama.cpp's wait for each other by spinning, so that with one for every core a busy neighbour (the gate, a client)
// slows them ten times; on two idle cores, one gave 53 tokens a second where two gave 39.
// `tools` are accepted and not offered to the model: the models this is for are too small to call any.
import http from "node:http";
import os from "node:os";
import path from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const bodyMax = 16 * 1024 * 1024;
const waitingMax = 64;
const {values: args} = parseArgs({options: {
	model: {type: "string"},
	port: {type: "string"},
	host: {type: "string", default: "127.0.0.1"},
	name: {type: "string"},
	modules: {type: "string", default: process.env.TOLLGATE_LLM_DIR || path.join(os.homedir(), ".cache", "tollgate-llm")},
	slots: {type: "string", default: "2"},
	context: {type: "string", default: "2048"},
	threads: {type: "string", default: String(Math.max(1, Math.min(8, os.availableParallelism() >> 1)))},
}});
function die(text) {
	console.error("openai_worker: " + text);
	process.exit(2);
}
function integerArg(name, least, most) {
	const v = Number(args[name]);
	return Number.isInteger(v) && v >= least && v <= most ? v : die(`--${name}: an integer from ${least} to ${most} is needed`);
}
if (!args.model)
	die("--model FILE.gguf is needed");
const port = integerArg("port", 0, 65535), slots = integerArg("slots", 1, 64), contextSize = integerArg("context", 128, 131072);
const threads = integerArg("threads", 1, 256);
const modelName = args.name ?? path.basename(args.model, ".gguf");

class Fault extends Error {
	constructor(status, message, param = null, code = null) {
		super(message);
		this.status = status;
		this.body = {error: {message, type: status < 500 ? "invalid_request_error" : "server_error", param, code}};
	}
}
const bad = (param, message) => new Fault(400, `${param}: ${message}`, param, "invalid_value");

function sendJson(res, status, value) {
	const text = JSON.stringify(value);
	res.writeHead(status, {"content-type": "application/json", "content-length": Buffer.byteLength(text)});
	res.end(text);
}

// The model, its sequences (one a slot), and the bounded queue for them.
let model = null, llm = null, chatWrapper = null;
const free = [], waiting = [];
function takeSlot(signal) {
	if (free.length)
		return Promise.resolve(free.pop());
	if (waiting.length >= waitingMax)
		throw new Fault(503, "Every slot is taken and the queue is full.", null, "queue_full");
	return new Promise((resolve, reject) => {
		const w = {resolve};
		waiting.push(w);
		signal.addEventListener("abort", () => {
			const at = waiting.indexOf(w);
			if (at >= 0) {
				waiting.splice(at, 1);
				reject(signal.reason);
			}
		});
	});
}
function giveSlot(sequence) {
	const w = waiting.shift();
	if (w)
		w.resolve(sequence);
	else
		free.push(sequence);
}
async function load() {
	llm = await import(pathToFileURL(path.resolve(args.modules, "node_modules/node-llama-cpp/dist/index.js")));
	const llama = await llm.getLlama({gpu: false, build: "never", maxThreads: threads, logLevel: "error"});
	const loaded = await llama.loadModel({modelPath: path.resolve(args.model)});
	const context = await loaded.createContext({contextSize, sequences: slots, threads});
	if (loaded.fileInfo.metadata.tokenizer?.chat_template)
		chatWrapper = llm.resolveChatWrapper(loaded);
	for (let i = 0; i < slots; i++)
		free.push(context.getSequence());
	model = loaded;
}

async function readJson(req) {
	const parts = [];
	let n = 0;
	for await (const part of req) {
		n += part.length;
		if (n > bodyMax)
			throw new Fault(413, `The body is over ${bodyMax} bytes.`, null, "request_too_large");
		parts.push(part);
	}
	let q;
	try {
		q = JSON.parse(Buffer.concat(parts).toString("utf8"));
	} catch (e) {
		throw new Fault(400, `The body is not valid JSON: ${e.message}`, null, "invalid_json");
	}
	if (q === null || typeof q !== "object" || Array.isArray(q))
		throw new Fault(400, "The body is not a JSON object.", null, "invalid_json");
	return q;
}
function number(q, name, least, most, whole) {
	const v = q[name];
	if (v === undefined || v === null)
		return undefined;
	if (typeof v !== "number" || v < least || v > most || (whole && !Number.isInteger(v)))
		throw bad(name, `must be ${whole ? "an integer" : "a number"} from ${least} to ${most}`);
	return v;
}
function contentText(content, at) {
	if (content === undefined || content === null)
		return "";
	if (typeof content === "string")
		return content;
	if (!Array.isArray(content) || content.some(p => p?.type !== "text" || typeof p.text !== "string"))
		throw bad(`${at}.content`, "must be a string or an array of text parts");
	return content.map(p => p.text).join("");
}
// The tokens the model continues, and the texts at which it stops by itself. A file without a chat template holds a base model: it gets a transcript
// to continue, headed by one exchange, without which the smallest ones repeat the question instead of answering it.
const baseOpening = "Question: How are you?\nAnswer: I am well, thank you. How can I help you?\n\n";
function chatPrompt(messages) {
	if (!Array.isArray(messages) || messages.length === 0)
		throw bad("messages", "must be an array with at least one message");
	const turns = messages.map((m, i) => {
		if (typeof m?.role !== "string")
			throw bad(`messages[${i}].role`, "must be a string");
		return {role: m.role, text: contentText(m.content, `messages[${i}]`)};
	});
	if (!chatWrapper) {
		const line = {__proto__: null, user: t => `Question: ${t}\n`, assistant: t => `Answer: ${t}\n\n`, system: t => `${t}\n\n`, developer: t => `${t}\n\n`};
		const text = turns.map(t => line[t.role]?.(t.text) ?? `${t.role}: ${t.text}\n`);
		return {tokens: model.tokenize(baseOpening + text.join("") + "Answer:"), stops: ["\nQuestion:", "\n\nQuestion:", "\nAnswer:"], bare: true};
	}
	const history = turns.map(t => t.role === "assistant" ? {type: "model", response: [t.text]}
		: {type: t.role === "system" || t.role === "developer" ? "system" : "user", text: t.text});
	history.push({type: "model", response: []});
	const state = chatWrapper.generateContextState({chatHistory: history});
	return {tokens: state.contextText.tokenize(model.tokenizer), stops: state.stopGenerationTriggers};
}
function textPrompt(prompt) {
	const text = Array.isArray(prompt) && prompt.length === 1 ? prompt[0] : prompt;
	if (typeof text !== "string")
		throw bad("prompt", "must be a string or an array of one string");
	return {tokens: model.tokenize(text), stops: []};
}

let count = 0;
async function complete(req, res, chat) {
	const gone = new AbortController();
	res.on("close", () => res.writableFinished || gone.abort(new Error("the client left")));
	const q = await readJson(req);
	if (!model)
		throw new Fault(503, "The model is still loading.", null, "loading");
	if (q.stream !== undefined && q.stream !== null && typeof q.stream !== "boolean")
		throw bad("stream", "must be true or false");
	number(q, "n", 1, 1, true);
	const stops = q.stop === undefined || q.stop === null ? [] : [].concat(q.stop);
	if (stops.length > 4 || stops.some(s => typeof s !== "string" || s === ""))
		throw bad("stop", "must be a string or an array of at most 4 strings");
	const temperature = number(q, "temperature", 0, 2, false) ?? 0, topP = number(q, "top_p", 0, 1, false);
	const seed = number(q, "seed", 0, Number.MAX_SAFE_INTEGER, true);
	const wanted = number(q, "max_completion_tokens", 1, 1e6, true) ?? number(q, "max_tokens", 1, 1e6, true) ?? 256;
	const prompt = chat ? chatPrompt(q.messages) : textPrompt(q.prompt);
	const room = contextSize - prompt.tokens.length - 1;
	if (room < 1)
		throw new Fault(400, `The prompt has ${prompt.tokens.length} tokens; the context holds ${contextSize}.`, chat ? "messages" : "prompt", "context_length_exceeded");

	const base = {id: `${chat ? "chatcmpl" : "cmpl"}-${process.pid}-${++count}`, object: chat ? (q.stream ? "chat.completion.chunk" : "chat.completion") : "text_completion",
		created: Math.floor(Date.now() / 1000), model: modelName};
	const chunk = (text, finish, first) => ({...base, choices: [chat
		? {index: 0, delta: first ? {role: "assistant", content: ""} : finish ? {} : {content: text}, logprobs: null, finish_reason: finish}
		: {index: 0, text, logprobs: null, finish_reason: finish}]});
	// What is written without waiting for "drain" is bounded by the context, a few hundred KiB.
	const event = value => res.write(`data: ${JSON.stringify(value)}\n\n`);

	const sequence = await takeSlot(gone.signal);
	let text = "", finish;
	const meter = sequence.tokenMeter.getState();
	try {
		gone.signal.throwIfAborted();
		await sequence.clearHistory();
		if (q.stream) {
			res.writeHead(200, {"content-type": "text/event-stream", "cache-control": "no-cache"});
			if (chat)
				event(chunk("", null, true));
		}
		const completion = new llm.LlamaCompletion({contextSequence: sequence, autoDisposeSequence: false});
		try {
			const {response: raw, metadata} = await completion.generateCompletionWithMeta(prompt.tokens, {
				maxTokens: Math.min(wanted, room), temperature, topP, seed, signal: gone.signal, disableContextShift: true,
				customStopTriggers: [...prompt.stops, ...stops],
				onTextChunk: chunkText => {
					const s = prompt.bare && text === "" ? chunkText.trimStart() : chunkText;
					text += s;
					if (q.stream && s)
						event(chunk(s, null, false));
				},
			});
			const response = prompt.bare ? raw.trimStart() : raw;
			finish = metadata.stopReason === "maxTokens" ? "length" : "stop";
			// What was held back as the possible beginning of a stop text is part of the answer once the end came first.
			if (q.stream && response.length > text.length && response.startsWith(text))
				event(chunk(response.slice(text.length), null, false));
			text = response;
		} finally {
			completion.dispose();
		}
	} finally {
		giveSlot(sequence);
	}
	const tokens = sequence.tokenMeter.diff(meter).usedOutputTokens;
	const usage = {prompt_tokens: prompt.tokens.length, completion_tokens: tokens, total_tokens: prompt.tokens.length + tokens};
	if (!q.stream)
		return sendJson(res, 200, {...base, choices: [chat
			? {index: 0, message: {role: "assistant", content: text, refusal: null}, logprobs: null, finish_reason: finish}
			: {index: 0, text, logprobs: null, finish_reason: finish}], usage});
	event(chunk("", finish, false));
	if (q.stream_options?.include_usage)
		event({...base, choices: [], usage});
	res.end("data: [DONE]\n\n");
}

const models = () => ({object: "list", data: [{id: modelName, object: "model", created: 0, owned_by: "local"}]});
const routes = {
	"/health": {GET: (req, res) => sendJson(res, model ? 200 : 503, {status: model ? "ok" : "loading"})},
	"/v1/models": {GET: (req, res) => sendJson(res, 200, models())},
	"/v1/chat/completions": {POST: (req, res) => complete(req, res, true)},
	"/v1/completions": {POST: (req, res) => complete(req, res, false)},
};
const server = http.createServer(async (req, res) => {
	const route = routes[req.url.split("?")[0]];
	try {
		if (!route)
			throw new Fault(404, "No such path.", null, "not_found");
		if (!route[req.method])
			throw new Fault(405, `The path has no method ${req.method}.`, null, "method_not_allowed");
		await route[req.method](req, res);
	} catch (e) {
		if (res.destroyed)
			return;
		if (!(e instanceof Fault))
			console.error("openai_worker:", e);
		const fault = e instanceof Fault ? e : new Fault(500, "The generation failed.", null, "internal_error");
		if (!res.headersSent)
			return sendJson(res, fault.status, fault.body);
		// A stream that has begun ends with its error and without [DONE].
		res.end(`data: ${JSON.stringify(fault.body)}\n\n`);
	}
});
server.keepAliveTimeout = 75_000;
server.on("error", e => die(`${args.host}:${port}: ${e.message}`));
server.listen(port, args.host, () => console.log(`openai_worker: listening on ${args.host}:${server.address().port}`));
for (const signal of ["SIGTERM", "SIGINT"])
	process.on(signal, () => {
		server.close();
		server.closeAllConnections();
		setTimeout(() => process.exit(0), 100);
	});
const began = Date.now();
load().then(() => console.log(`openai_worker: ${modelName} is ready after ${Date.now() - began} ms`), e => die(`cannot load ${args.model}: ${e.message}`));
