// Texts of the panel.
import type { RowWords } from "../shared/rows";

export interface PanelWords extends RowWords {
  chat: string;
  close: string;
  online: string;
  away: string;
  hint: string;
  write: string;
  send: string;
  typing: string;
  waiting: string;
  closed: string;
  before: string;
  deleted: string;
  tooLong: string;
  soundOn: string;
  soundOff: string;
  messages: string;
  latest: string;
}

export const PANEL_WORDS: Record<string, PanelWords> = {
  en: {
    chat: "Chat",
    close: "Close chat",
    online: "Online",
    away: "Away — leave us a message",
    hint: "Ask us anything. You can leave this page; the conversation is kept.",
    write: "Write a message",
    send: "Send",
    sending: "Sending…",
    sent: "Sent",
    read: "Read",
    failed: "Not sent yet",
    retry: "Try again",
    typing: "is typing",
    waiting: "Reconnecting…",
    closed: "This conversation is closed. Send a message to reopen it.",
    before: " Earlier messages will reappear.",
    deleted: "This conversation was deleted. Your next message starts a new one.",
    tooLong: "This message is too long",
    soundOn: "Turn sound on",
    soundOff: "Turn sound off",
    messages: "Messages",
    latest: "New messages",
    you: "You",
    today: "Today",
    yesterday: "Yesterday",
  },
  ko: {
    chat: "채팅",
    close: "채팅 닫기",
    online: "온라인",
    away: "부재중 — 메시지를 남겨 주세요",
    hint: "무엇이든 물어보세요. 페이지를 떠나도 대화는 남아 있어요.",
    write: "메시지 입력",
    send: "보내기",
    sending: "보내는 중…",
    sent: "보냄",
    read: "읽음",
    failed: "아직 보내지 못했어요",
    retry: "다시 보내기",
    typing: "님이 입력 중",
    waiting: "다시 연결하는 중…",
    closed: "종료된 대화예요. 메시지를 보내면 다시 열려요.",
    before: " 이전 대화도 다시 볼 수 있어요.",
    deleted: "삭제된 대화예요. 메시지를 보내면 새 대화가 시작돼요.",
    tooLong: "메시지가 너무 길어요",
    soundOn: "소리 켜기",
    soundOff: "소리 끄기",
    messages: "메시지",
    latest: "새 메시지",
    you: "나",
    today: "오늘",
    yesterday: "어제",
  },
};
