// Keeps the figures of the inbox up to date, but not while somebody looks elsewhere or stands on one of them.
async function look() {
    const page = document.getElementById("rl-inbox");
    if (!document.hidden && !page.contains(document.activeElement)) {
        try {
            const answer = await fetch("?part=1");
            if (answer.redirected || !answer.ok) {
                return; // signed out, or no longer allowed: a reload will say so
            }
            page.outerHTML = await answer.text();
        } catch {
            // The server is away for a moment.
        }
    }
    setTimeout(look, 15000);
}

setTimeout(look, 15000);
