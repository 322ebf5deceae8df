// The page /docs: reads /openapi.json, lists its routes, and sends what the reader tries. Text from the document and from answers is only ever put in as text. The key or token lives in its field and is sent as a bearer.

const at = (id) => document.getElementById(id);

function make(tag, attributes, ...inside) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
	e.append(...inside.filter((i) => i !== null && i !== undefined));
	return e;
}

const shown = (v) => (typeof v === "string" ? v : JSON.stringify(v, null, 2));
const types = (s) => (s.type ? [].concat(s.type).join(" or ") + (s.items && s.items.type ? " of " + s.items.type : "") : "anything");

function bounds(s) {
	const out = [];
	if ("minimum" in s || "maximum" in s) out.push(`from ${s.minimum ?? "any"} to ${s.maximum ?? "any"}`);
	if ("minLength" in s || "maxLength" in s) out.push(`characters from ${s.minLength ?? 0} to ${s.maxLength ?? "any"}`);
	const values = s.enum || (s.items && s.items.enum);
	if (values) out.push("one of: " + values.join(", "));
	return out.length ? " " + out.join("; ") : "";
}

function inputs(op, schema) {
	const rows = (op.parameters || []).map((p) => [p.name, p.in, p.required, p.schema, p.description]);
	for (const [name, s] of Object.entries((schema && schema.properties) || {})) rows.push([name, "body", (schema.required || []).includes(name), s, s.description]);
	if (!rows.length) return null;
	const body = make("tbody");
	for (const [name, where, required, s, about] of rows)
		body.append(make("tr", {}, make("td", {}, make("code", {}, name), required ? make("em", {}, " required") : ""), make("td", {}, where), make("td", {}, types(s) + bounds(s)), make("td", {}, about || "")));
	return make("table", {}, make("thead", {}, make("tr", {}, ...["Name", "Where", "Type", "Meaning"].map((t) => make("th", {}, t)))), body);
}

function answers(doc, op) {
	const list = make("dl");
	for (const [status, given] of Object.entries(op.responses)) {
		const answer = given.$ref ? doc.components.responses[given.$ref.split("/").pop()] : given;
		const what = make("dd", {}, answer.description);
		for (const [type, media] of Object.entries(answer.content || {})) what.append(make("details", {}, make("summary", {}, make("code", {}, type)), make("pre", {}, shown(media.example))));
		list.append(make("dt", {}, status), what);
	}
	return list;
}

function field(form, id, label, value, large) {
	const input = make(large ? "textarea" : "input", { id, spellcheck: "false", autocomplete: "off" });
	input.value = value;
	form.append(make("label", { for: id }, label), input);
	return input;
}

async function send(op, method, path, parts, type, body, out) {
	let url = path;
	const query = new URLSearchParams();
	for (const [p, input] of parts) {
		if (p.in === "path") url = url.replace(`{${p.name}}`, () => encodeURIComponent(input.value));
		else if (input.value !== "") query.set(p.name, input.value);
	}
	if (query.size) url += "?" + query;
	const headers = {};
	if (at("key").value && op.security.length) headers.Authorization = "Bearer " + at("key").value;
	if (body && body.value.trim()) headers["Content-Type"] = type;
	out.className = "";
	out.textContent = "...";
	try {
		const r = await fetch(url, { method: method.toUpperCase(), headers, body: body && body.value.trim() ? body.value : undefined, credentials: "omit", cache: "no-store" });
		const text = await r.text();
		let nice = text;
		try { nice = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is no JSON: as it came */ }
		out.className = r.ok ? "" : "failed";
		out.textContent = `${r.status} ${r.statusText}\n${[...r.headers].map(([k, v]) => k + ": " + v).join("\n")}\n\n${nice}`;
	} catch (e) {
		out.className = "failed";
		out.textContent = "No answer: " + e.message;
	}
}

function tryIt(op, method, path, type, media) {
	const form = make("form", { class: "try" }), out = make("pre", { "aria-live": "polite" }), parts = [];
	for (const p of op.parameters || []) parts.push([p, field(form, `${op.operationId}-${p.name}`, `${p.name} (${p.in})`, p.in === "path" && p.example !== undefined ? String(p.example) : "", false)]);
	const body = media ? field(form, `${op.operationId}-body`, `Body, ${type}`, media.example === undefined ? "" : shown(media.example), true) : null;
	form.append(make("button", { type: "submit" }, `Send ${method.toUpperCase()}`));
	form.addEventListener("submit", (e) => {
		e.preventDefault();
		send(op, method, path, parts, type, body, out);
	});
	return make("details", {}, make("summary", {}, "Try it"), form, out);
}

function route(doc, path, method, op) {
	const [type, media] = Object.entries((op.requestBody && op.requestBody.content) || {})[0] || [];
	const box = make("details", { id: op.operationId }, make("summary", {}, make("span", { class: "method " + method }, method), " ", make("code", {}, path), " ", op.summary), make("p", {}, op.description));
	const table = inputs(op, media && media.schema);
	if (table) box.append(table);
	if (media && media.example !== undefined) box.append(make("h4", {}, "Request"), make("pre", {}, shown(media.example)));
	box.append(make("h4", {}, "Answers"), answers(doc, op), tryIt(op, method, path, type, media));
	return box;
}

function openNamed() {
	const box = at(decodeURIComponent(location.hash.slice(1)));
	if (box && box.tagName === "DETAILS") {
		box.open = true;
		box.scrollIntoView();
	}
}

async function start() {
	const r = await fetch("/openapi.json", { credentials: "omit" });
	if (!r.ok) throw new Error("/openapi.json: " + r.status);
	const doc = await r.json(), tags = new Map();
	document.title = doc.info.title;
	at("title").replaceChildren(doc.info.title + " ", make("small", {}, doc.info.version));
	at("about").replaceChildren(doc.info.description + " ", make("a", { href: "/redoc" }, "To read"), "; ", make("a", { href: "/openapi.json" }, "for programs"), ".");
	for (const [path, methods] of Object.entries(doc.paths))
		for (const [method, op] of Object.entries(methods)) {
			const tag = op.tags[0];
			if (!tags.has(tag)) tags.set(tag, []);
			tags.get(tag).push([path, method, op]);
		}
	for (const [tag, list] of tags) {
		const section = make("section", {}, make("h2", { id: "tag-" + tag }, tag)), entries = make("ul");
		for (const [path, method, op] of list) {
			section.append(route(doc, path, method, op));
			entries.append(make("li", {}, make("a", { href: "#" + op.operationId }, op.summary)));
		}
		at("routes").append(section);
		at("contents").append(make("li", {}, make("a", { href: "#tag-" + tag }, tag), entries));
	}
	at("state").remove();
	openNamed();
}

at("credential").addEventListener("submit", (e) => e.preventDefault());
addEventListener("hashchange", openNamed);
start().catch((e) => {
	at("state").className = "failed";
	at("state").textContent = "It cannot be shown: " + e.message;
});
