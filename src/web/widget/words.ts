// Texts of the launcher. The texts of the panel are loaded with the panel.

export interface Words {
  open: string;
  close: string;
  unread(count: number): string;
}

export const WORDS: Record<string, Words> = {
  en: { open: "Open chat", close: "Close chat", unread: (count) => `${count} unread` },
  ko: { open: "채팅 열기", close: "채팅 닫기", unread: (count) => `읽지 않은 메시지 ${count}개` },
};

/** Returns the language of the first supported tag. Returns English if no tag is supported. */
export function pickLanguage(...tags: (string | null | undefined)[]): string {
  for (const tag of tags) {
    const lang = tag?.toLowerCase().split("-")[0] ?? "";
    if (lang === "en" || lang === "ko") return lang;
  }
  return "en";
}
