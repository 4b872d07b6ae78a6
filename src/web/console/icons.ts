// Icons of the console, as paths in a 24 × 24 view box.

export const ICONS = {
  back: "M15 5l-7 7 7 7",
  bubble: "M21 11.5a8.4 8.4 0 0 1-12.2 7.5L3 21l2-5.8A8.4 8.4 0 1 1 21 11.5z",
  close: "M9 12l2 2 4-4M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  download: "M12 4v11M7 10l5 5 5-5M4 20h16",
  gear: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM9 15a2 2 0 1 1 0 4 2 2 0 0 1 0-4z",
  leave: "M15 4h4v16h-4M10 8l-4 4 4 4M6 12h9",
  pin: "M12 17v5M8 3h8l-1 7 3 4H6l3-4z",
  plane: "M12 20V4M5 11l7-7 7 7",
  restore: "M4 4v6h6M4.5 14a8 8 0 1 0 1-6.5L4 10",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
};

export type IconName = keyof typeof ICONS;
