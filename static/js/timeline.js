// The recording and the timeline go together: a cursor on the lanes follows the recording, and a click on a lane seeks.
// A recording is taken to begin with the answer: providers do not say when it does.
(function () {
    const lanes = document.getElementById("rl-lanes");
    if (!lanes || !lanes.dataset.answer) {
        return;
    }
    const seconds = parseFloat(lanes.dataset.seconds), answer = parseFloat(lanes.dataset.answer);
    let player = null;

    function follow() {
        const place = 100 * (answer + player.currentTime) / seconds;
        for (const cursor of lanes.querySelectorAll(".rl-cursor")) {
            cursor.setAttribute("x1", place + "%");
            cursor.setAttribute("x2", place + "%");
            cursor.setAttribute("visibility", place <= 100 ? "visible" : "hidden");
        }
    }

    // The player's events do not bubble, and it may come to the page later: they are caught on their way down.
    for (const name of ["timeupdate", "seeking", "play"]) {
        document.addEventListener(name, function (event) {
            if (event.target instanceof HTMLAudioElement) {
                player = event.target;
                lanes.classList.add("rl-seekable");
                follow();
            }
        }, true);
    }

    for (const bar of lanes.querySelectorAll(".rl-lane svg")) {
        bar.addEventListener("click", function (event) {
            if (!player || event.target.closest("a")) {
                return;
            }
            const box = bar.getBoundingClientRect();
            const moment = seconds * (event.clientX - box.left) / box.width - answer;
            player.currentTime = Math.min(Math.max(moment, 0), player.duration || 0);
        });
    }
})();
