// The live board. The server tells what is new (calls.live): by a stream of events, or, where no stream comes through,
// when it is asked. Everything is written as text into copies of the page's templates.
const page = document.getElementById("rl-live");
const calls = new Map(); // by id: what was told, and the row
const agents = new Map();
const POLL = 3000;
const SILENCE = 40000; // two beats and a half
const PATIENCE = 6000; // for the first event of a stream
const RETRY_STREAM = 60000;
const LEAVING = 4000;
const rank = { talking: 0, ringing: 1, free: 2 };
const clockText = new Intl.DateTimeFormat([], { timeZone: page.dataset.zone, hour: "2-digit", minute: "2-digit", hour12: false });
const dayText = new Intl.DateTimeFormat([], { timeZone: page.dataset.zone, day: "numeric", month: "short" });

let skew = null; // the server's clock minus ours, in milliseconds
let lastId = "";
let source = null;
let quiet = null; // the timer that gives a silent stream up
let poller = null;
let isFirst = true;
let hasStream = false; // whether the stream at hand has told anything yet
let isThere = false; // whether it has told anything since it last broke off
let streams = false; // whether the last one did: if so the next is tried as soon as the server answers again

const find = (id) => document.getElementById(id);
const part = (row, name) => row.querySelector(`[data-part="${name}"]`);
const copy = (name) => find(`rl-live-${name}`).content.firstElementChild.cloneNode(true);
const word = (kind, value) => page.querySelector(`template[data-${kind}="${CSS.escape(value)}"]`)?.content.textContent ?? value;
const addressOf = (id) => page.dataset.call.replace("00000000-0000-0000-0000-000000000000", id);
const now = () => Date.now() + (skew ?? 0);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function clock(since) {
    const seconds = Math.max(0, Math.floor((now() - since) / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// --- How we hear -----------------------------------------------------------------------------------------------------

function say(link, text) {
    const status = find("rl-live-link");
    if (status.dataset.link !== link) {
        status.dataset.link = link;
        status.textContent = text;
    }
}

function trouble(text) {
    const box = find("rl-live-trouble");
    if (box.textContent !== text) {
        box.textContent = text;
        box.hidden = !text;
    }
}

function ended() {
    source?.close();
    clearTimeout(quiet);
    clearTimeout(poller);
    say("ended", "Not connected");
    trouble("You have been signed out, or may no longer see calls. Reload the page to sign in.");
}

function address(path, extra = {}) {
    const query = new URLSearchParams(location.search);
    query.delete("group");
    for (const [name, value] of Object.entries(extra)) {
        query.set(name, value);
    }
    return `${path}?${query}`;
}

function listen() {
    if (!window.EventSource) {
        poll();
        return;
    }
    hasStream = isThere = false;
    source = new EventSource(address(page.dataset.stream, { since: lastId }));
    wait(PATIENCE);
    source.onmessage = (event) => {
        heard();
        lastId = event.lastEventId;
        take(JSON.parse(event.data));
    };
    source.addEventListener("beat", heard);
    source.addEventListener("end", ended);
    source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) {
            giveUp(); // refused: too many streams, signed out, or a server without streams
        } else {
            say("reconnecting", "Reconnecting …");
            if (isThere) { // not at each of the browser's own tries
                isThere = false;
                wait(PATIENCE);
            }
        }
    };
}

function heard() {
    hasStream = isThere = true;
    say("connected", "Connected");
    clearTimeout(poller);
    wait(SILENCE);
}

function wait(milliseconds) {
    clearTimeout(quiet);
    quiet = setTimeout(giveUp, milliseconds);
}

// A stream that does not come through: ask, and try again later whether one does.
function giveUp() {
    source.close();
    streams = hasStream;
    clearTimeout(quiet);
    quiet = setTimeout(listenAgain, RETRY_STREAM);
    poll();
}

function listenAgain() {
    clearTimeout(poller);
    listen();
}

async function poll() {
    clearTimeout(poller);
    try {
        const answer = await fetch(address(page.dataset.state, { since: lastId }), { headers: { Accept: "application/json" } });
        if (answer.redirected || answer.status === 403 || answer.status === 401) {
            ended();
            return;
        }
        const told = await answer.json();
        say("polling", "Polling every 3 seconds");
        lastId = told.id;
        if (told.news) {
            take(told.news);
        }
        if (streams) {
            streams = false;
            listenAgain();
            return;
        }
    } catch {
        say("reconnecting", "Reconnecting …");
    }
    poller = setTimeout(poll, POLL);
}

// --- What we show ----------------------------------------------------------------------------------------------------

function take(news) {
    // An event that was under way for long would set the clock back; the least delayed one tells best.
    const told = news.now - Date.now();
    skew = skew === null || Math.abs(told - skew) > 60000 ? told : Math.max(skew, told);
    trouble(news.away ? "The server cannot read its database at present: what is shown may be out of date." : "");
    find("rl-live-cut").hidden = !news.cut;
    const gone = new Set(news.gone);
    const goneAgents = new Set(news.gone_agents);
    if (news.whole) {
        const kept = new Set(news.calls.map((call) => call.id));
        const keptAgents = new Set(news.agents.map((agent) => agent.id));
        [...calls.keys()].filter((id) => !kept.has(id)).forEach((id) => gone.add(id));
        [...agents.keys()].filter((id) => !keptAgents.has(id)).forEach((id) => goneAgents.add(id));
    }
    gone.forEach(leave);
    goneAgents.forEach((id) => {
        agents.get(id)?.row.remove();
        agents.delete(id);
    });
    news.calls.forEach(showCall);
    news.agents.forEach(showAgent);
    arrange();
    isFirst = false;
}

function showCall(call) {
    const known = calls.get(call.id);
    const row = known?.row ?? copy("call");
    clearTimeout(known?.leaving);
    row.classList.remove("rl-live-over");
    calls.set(call.id, { ...call, row });
    const phase = part(row, "phase");
    phase.textContent = capital(call.phase);
    phase.className = `rl-word rl-live-${call.phase}`;
    const caller = part(row, "caller");
    caller.textContent = call.contact || call.number || "Number withheld";
    caller.href = addressOf(call.id);
    part(row, "number").textContent = call.contact ? call.number : "";
    part(row, "direction").textContent = word("direction", call.direction);
    part(row, "did").textContent = call.did;
    part(row, "account").textContent = call.account;
    part(row, "agents").textContent = call.agents.length
        ? call.agents.map((agent) => (agent.state === call.phase ? agent.name : `${agent.name} (${agent.state})`)).join(", ")
        : call.phase === "talking" ? "Agent not told by the provider" : "No agent yet";
    const stream = part(row, "stream");
    stream.hidden = !call.stream;
    stream.textContent = `Stream ${call.stream}`;
    stream.className = `rl-live-stream rl-live-stream-${call.stream}`;
    part(row, "recent-title").textContent = call.recent.length ? "Last calls" : call.number ? "No earlier call" : "";
    part(row, "recent").replaceChildren(...call.recent.map(recentRow));
    if (!known && !isFirst) {
        row.classList.add("rl-live-new");
        announce(`New ${word("direction", call.direction).toLowerCase()} call: ${caller.textContent}, ${call.phase}.`);
    } else if (known && known.phase !== call.phase) {
        announce(`${caller.textContent} is now ${call.phase}.`);
    }
}

function recentRow(call) {
    const row = copy("recent");
    const at = part(row, "at");
    const [day, today] = [dayText.format(call.at), dayText.format(now())];
    at.textContent = day === today ? clockText.format(call.at) : `${day}, ${clockText.format(call.at)}`;
    at.href = addressOf(call.id);
    const disposition = part(row, "disposition");
    disposition.textContent = word("disposition", call.disposition);
    disposition.classList.add(`rl-${call.disposition}`);
    const talk = call.talk ? clock(now() - call.talk * 1000) : "";
    part(row, "rest").textContent = [call.direction === "outbound" ? "outbound" : "", call.agent, talk].filter(Boolean).join(", ");
    return row;
}

// A call that has ended stays for a moment, so that nobody clicks on the one that takes its place.
function leave(id) {
    const call = calls.get(id);
    if (!call || call.leaving) {
        return;
    }
    call.row.classList.add("rl-live-over");
    const phase = part(call.row, "phase");
    phase.textContent = "Ended";
    phase.className = "rl-word";
    part(call.row, "since").textContent = "";
    announce(`${part(call.row, "caller").textContent}: the call has ended.`);
    call.leaving = setTimeout(() => {
        call.row.remove();
        calls.delete(id);
        arrange();
    }, LEAVING);
}

function showAgent(agent) {
    const row = agents.get(agent.id)?.row ?? copy("agent");
    agents.set(agent.id, { ...agent, row });
    part(row, "name").textContent = agent.name;
    part(row, "account").textContent = agent.account;
    const state = part(row, "state");
    state.textContent = capital(agent.state);
    state.className = `rl-word rl-live-${agent.state}`;
    const since = part(row, "since");
    since.hidden = !agent.since;
    if (agent.call) {
        since.href = addressOf(agent.call);
        since.setAttribute("aria-label", `${agent.name}’s call`);
    }
}

function groupOf(call) {
    switch (page.dataset.group) {
        case "account":
            return call.account;
        case "did":
            return call.did || "No DID";
        case "agent":
            return call.agents.map((agent) => agent.name).join(", ") || "No agent known";
        default:
            return "";
    }
}

function arrange() {
    const groups = new Map();
    const newest = [...calls.values()].sort((one, other) => other.started - one.started || (one.id < other.id ? 1 : -1));
    for (const call of newest) {
        const name = groupOf(call);
        groups.set(name, [...(groups.get(name) ?? []), call.row]);
    }
    const place = find("rl-live-calls");
    const sections = new Map([...place.children].map((section) => [section.dataset.name, section]));
    const wanted = [...groups.keys()].sort((one, other) => one.localeCompare(other, undefined, { numeric: true })).map((name) => {
        const section = sections.get(name) ?? copy("group");
        section.dataset.name = name;
        const title = section.querySelector("h4");
        title.textContent = name;
        title.hidden = !name;
        order(section.querySelector("ul"), groups.get(name));
        return section;
    });
    order(place, wanted);
    order(
        find("rl-live-agents"),
        [...agents.values()]
            .sort((one, other) => rank[one.state] - rank[other.state] || one.name.localeCompare(other.name))
            .map((agent) => agent.row),
    );
    const going = newest.filter((call) => !call.leaving);
    for (const count of page.querySelectorAll("[data-count]")) {
        count.textContent = going.filter((call) => call.phase === count.dataset.count).length;
    }
    for (const count of page.querySelectorAll("[data-agents]")) {
        count.textContent = [...agents.values()].filter((agent) => agent.state === count.dataset.agents).length;
    }
    find("rl-live-none").hidden = calls.size > 0;
    find("rl-live-nobody").hidden = agents.size > 0;
    tick();
}

// Puts the rows in this order and takes out all others; a row that is in its place already keeps the keyboard's focus.
function order(place, rows) {
    const wanted = new Set(rows);
    [...place.children].filter((row) => !wanted.has(row)).forEach((row) => row.remove());
    rows.forEach((row, index) => {
        if (place.children[index] !== row) {
            place.insertBefore(row, place.children[index] ?? null);
        }
    });
}

let saying = [];
function announce(text) {
    if (isFirst) {
        return;
    }
    saying = [...saying, text].slice(-3);
    find("rl-live-said").textContent = saying.join(" ");
    setTimeout(() => {
        saying = saying.filter((each) => each !== text);
        find("rl-live-said").textContent = saying.join(" ");
    }, 5000);
}

function tick() {
    for (const call of calls.values()) {
        if (!call.leaving) {
            part(call.row, "since").textContent = clock(call.since);
            part(call.row, "started").textContent = clock(call.started);
        }
    }
    for (const agent of agents.values()) {
        part(agent.row, "since").textContent = agent.since ? clock(agent.since) : "";
    }
}

setInterval(tick, 1000);
listen();
