// The first page: the list of accounts to pick from closes with Escape and with a click beside it.
const accounts = document.getElementById("rl-accounts");

accounts?.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
        accounts.open = false;
        accounts.querySelector("summary").focus();
    }
});
document.addEventListener("click", (event) => {
    if (accounts && !accounts.contains(event.target)) {
        accounts.open = false;
    }
});
