// Shows the number of unread messages in the title of the page.

/** `pageTitle` is the page's own title, and `shown` the title that a widget set. All widgets of a page share both. */
let pageTitle = "";
let shown: string | null = null;

/** Shows a number in the title; 0 restores the page's own title. If the page has changed its title, the new title is used. */
export function showCount(count: number): void {
  if (document.title !== shown) pageTitle = document.title;
  const title = count ? `(${count}) ${pageTitle}` : pageTitle;
  if (document.title !== title) document.title = title;
  shown = document.title;
}
