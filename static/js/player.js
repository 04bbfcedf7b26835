// The player of a recording: keys, skips, speed and time around the browser's own controls, and, when nothing can be
// played, the sentence in which the server says why.

"use strict";

const STEP_SECONDS = 5;

function clock(seconds) {
    const whole = Math.floor(seconds);
    const rest = String(whole % 60).padStart(2, "0");
    const minutes = Math.floor(whole / 60);
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function setUp(player) {
    const audio = player.querySelector("audio");
    const speed = player.querySelector("[data-speed]");
    const words = player.querySelector("[data-words]");
    const elapsed = player.querySelector("[data-elapsed]");
    const total = player.querySelector("[data-total]");

    // Some recordings tell their length only on the way; until then the length of the talk stands in for it.
    const length = () => (Number.isFinite(audio.duration) ? audio.duration : Number(player.dataset.seconds) || Infinity);
    const seek = (seconds) => {
        const to = Math.min(Math.max(0, seconds), length());
        if (Number.isFinite(to)) audio.currentTime = to;
    };
    const tell = (sentence) => {
        words.textContent = sentence;
    };
    const askWhy = async () => {
        try {
            const answer = await fetch(audio.src, { headers: { Range: "bytes=0-0" }, redirect: "manual" });
            if (answer.ok) return tell("The browser cannot play this kind of audio. Download it instead.");
            const isSentence = (answer.headers.get("Content-Type") || "").startsWith("text/plain");
            if (answer.type === "opaqueredirect") return tell("Your session has ended. Log in again.");
            return tell(isSentence ? await answer.text() : `It cannot be played (${answer.status}). Reload the page.`);
        } catch {
            return tell("The server cannot be reached. Check the connection and press play again.");
        }
    };

    for (const button of player.querySelectorAll("[data-skip]")) {
        button.addEventListener("click", () => seek(audio.currentTime + Number(button.dataset.skip)));
    }
    speed.addEventListener("change", () => {
        audio.playbackRate = Number(speed.value);
    });
    // Before the browser's own keys, whose steps differ from one to the other.
    player.addEventListener(
        "keydown",
        (event) => {
            if (event.target === speed || event.altKey || event.ctrlKey || event.metaKey) return;
            const to = {
                ArrowLeft: audio.currentTime - STEP_SECONDS,
                ArrowRight: audio.currentTime + STEP_SECONDS,
                Home: 0,
                End: length(),
            }[event.key];
            if (to === undefined) return;
            event.preventDefault();
            event.stopPropagation();
            seek(to);
        },
        true,
    );

    audio.addEventListener("timeupdate", () => {
        elapsed.textContent = clock(audio.currentTime);
    });
    audio.addEventListener("durationchange", () => {
        if (Number.isFinite(audio.duration)) total.textContent = clock(audio.duration);
    });
    audio.addEventListener("loadstart", () => {
        audio.playbackRate = Number(speed.value);
    });
    audio.addEventListener("playing", () => tell(""));
    audio.addEventListener("waiting", () => tell("Loading…"));
    audio.addEventListener("canplay", () => tell(""));
    audio.addEventListener("error", askWhy);
    if (audio.error) askWhy(); // Play was pressed before this script was there.
}

document.querySelectorAll("[data-player]").forEach(setUp);
