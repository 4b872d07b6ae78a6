// Shows the number of unread messages in the page's title.

/** The page's own title, and the title set last; shared by all widgets of a page. */
let pageTitle = "";
let shown: string | null = null;

/** Shows a number in the title; 0 restores the page's title. A title that the page has set meanwhile is kept. */
export function showCount(count: number): void {
  if (document.title !== shown) pageTitle = document.title;
  const title = count ? `(${count}) ${pageTitle}` : pageTitle;
  if (document.title !== title) document.title = title;
  shown = document.title;
}
