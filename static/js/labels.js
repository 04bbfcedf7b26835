// The field in which one types to search a list of choices is made by a script, which gives it no name of its own.
function nameSearchFields() {
    for (const field of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
        const select = field.closest(".select2-container")?.previousElementSibling;
        const label = select?.labels?.[0];
        field.setAttribute("aria-label", label ? label.textContent.trim() : "Search");
    }
}

// Some are made long after the page has loaded, such as those of a row that is added to a form.
new MutationObserver(nameSearchFields).observe(document, { childList: true, subtree: true });
