// Buttons with data-copy put that text on the clipboard; buttons with data-confirm ask before their form is sent.
document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-copy], [data-confirm]");
    if (!button) {
        return;
    }
    if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) {
        event.preventDefault();
    }
    if (button.dataset.copy) {
        copy(button);
    }
});

async function copy(button) {
    try {
        await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
        // Plain http on another machine has no clipboard: mark the text, so that it can be copied by hand.
        button.parentElement.querySelector("input").select();
        return;
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 2000);
}

// The theme has things to click that are neither links nor buttons: let the keyboard reach and press them too.
document.addEventListener("DOMContentLoaded", function () {
    for (const element of document.querySelectorAll(":is(a:not([href]), span, div)[x-on\\:click]")) {
        element.setAttribute("role", "button");
        element.setAttribute("tabindex", "0");
        element.addEventListener("keydown", function (event) {
            if (event.target === element && (event.key === "Enter" || event.key === " ")) {
                event.preventDefault();
                element.click();
            }
        });
    }
});
