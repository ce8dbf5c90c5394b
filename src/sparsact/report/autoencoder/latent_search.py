"""The search box of a page with dashboards. Without scripts it is hidden, and the page complete."""

SEARCH_STYLE = """
p.search input { font: inherit; width: min(100%, 28rem); padding: .35rem .6rem; color: inherit;
                background: transparent; border: 1px solid var(--strong-line);
                border-radius: .3rem; }
p.search output { color: var(--muted); margin-left: .8rem; }
article[hidden], p.search[hidden] { display: none; }
"""

SEARCH_BOX = (
    '<p class="search" hidden><input id="search" type="search" placeholder="Search in texts, '
    'tokens and numbers of latents" aria-label="search in dashboards">'
    '<output for="search"></output></p>'
)

SEARCH_SCRIPT = """<script>{
const box = document.getElementById("search"), count = document.querySelector("p.search output");
const pages = [...document.querySelectorAll("article")].map(a => [a, a.textContent.toLowerCase()]);
box.parentElement.hidden = false;
box.addEventListener("input", () => {
  const words = box.value.toLowerCase();
  let found = 0;
  for (const [article, text] of pages) {
    article.hidden = !text.includes(words);
    found += !article.hidden;
  }
  count.textContent = words ? `${found} of ${pages.length} latents` : "";
});
}</script>"""
