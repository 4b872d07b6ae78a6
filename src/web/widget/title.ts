// The number of unread messages in the page's title.

/** The page's own title, and what was shown last; one for all widgets of a page. */
let own = "";
let shown: string | null = null;

/** Shows a number in the title; 0 shows the page's own. Titles that the page sets meanwhile are kept. */
export function showCount(count: number): void {
  if (document.title !== shown) own = document.title;
  const wanted = count ? `(${count}) ${own}` : own;
  if (document.title !== wanted) document.title = wanted;
  shown = document.title;
}
