// Error messages of the server in the language of the console. Unknown messages are shown without translation.
import { ApiError } from "./api";
import { lang, words } from "./words";

const KO: Record<string, string> = {
  // a call
  "Wrong e-mail or password.": "이메일이나 비밀번호가 맞지 않아요.",
  "Wrong password.": "비밀번호가 맞지 않아요.",
  "This account is deactivated.": "비활성화된 계정이에요. 아래에서 되살릴 수 있어요.",
  "This account does not exist or is deactivated.": "더 이상 없는 계정이에요.",
  "There is an account with this e-mail address.": "이미 가입된 이메일이에요.",
  "The code is wrong.": "메일로 보낸 인증 코드와 달라요.",
  "Check this e-mail address first.": "이메일 입력부터 다시 해 주세요.",
  "Request a code first.": "인증 코드를 먼저 받아 주세요.",
  "This code has expired: request another.": "만료된 인증 코드예요. 새로 받아 주세요.",
  "Confirm this e-mail address first.": "이메일을 먼저 인증해 주세요.",
  "If there is such an account, a temporary password was sent to its address.":
    "해당하는 계정이 있으면 임시 비밀번호를 메일로 보내 드려요.",
  "The token is not valid.": "로그인이 끝났어요. 다시 로그인해 주세요.",
  "The token has expired.": "로그인이 끝났어요. 다시 로그인해 주세요.",
  "This login has ended.": "로그인이 끝났어요. 다시 로그인해 주세요.",
  "An access token is required.": "로그인이 끝났어요. 다시 로그인해 주세요.",
  "This chatroom belongs to another account.": "다른 사람의 대화예요.",
  "At most 5 chatrooms can be pinned.": "대화는 5개까지 고정할 수 있어요.",
  "This chatroom is closed.": "종료된 대화예요.",
  "Not found.": "이미 사라졌어요.",
  "Some fields are not valid.": "올바르지 않은 항목이 있어요.",
  // a field
  "must not be blank": "입력해 주세요.",
  "is required": "입력해 주세요.",
  "is not an e-mail address": "이메일 주소가 아니에요.",
  "is the current password": "지금 쓰는 비밀번호와 같아요.",
  "is too long": "너무 길어요.",
  "must not contain line breaks or control characters": "줄바꿈이나 제어 문자는 쓸 수 없어요.",
  "must not contain control characters": "제어 문자는 쓸 수 없어요.",
  "is not a PNG, JPEG, WebP or GIF": "PNG, JPEG, WebP, GIF 파일이 아니에요.",
  "has too many pixels: at most 4096 x 4096 are possible": "사진이 너무 커요. 4096 x 4096 픽셀까지 쓸 수 있어요.",
  "is damaged": "손상된 파일이에요.",
  "is followed by something else": "사진 뒤에 다른 데이터가 붙어 있어요.",
  // a webhook
  "must be one or more of room.created, message.created, room.closed": "보낼 이벤트를 하나 이상 골라 주세요.",
  "must be one such as https://shop.example/hooks": "https://shop.example/hooks 같은 주소를 입력해 주세요.",
  "must have no user, password or fragment": "사용자, 비밀번호, # 뒤의 부분은 쓸 수 없어요.",
  "must begin with https://": "https:// 로 시작해야 해요.",
  "must not lead to a private address": "내부 주소는 쓸 수 없어요.",
  "the name of the URL leads to no public address": "공개된 주소로 이어지지 않는 이름이에요.",
};

const KO_PATTERNS: [RegExp, string][] = [
  [/^needs at least (\d+) characters$/, "$1자 이상이어야 해요."],
  [/^needs (\d+) to (\d+) characters$/, "$1~$2자로 입력해 주세요."],
  [/^(?:may|must) have at most (\d+) characters$/, "$1자까지 쓸 수 있어요."],
  [/^`(.*)` is not a host name with an optional port$/s, "‘$1’은(는) 호스트 이름이 아니에요. 포트를 붙일 수 있어요."],
  [/^`(.*)` is a public suffix: its subdomains belong to others$/s, "‘$1’의 하위 도메인은 다른 사람들의 것이라 등록할 수 없어요."],
  [/^no answer within (\d+) s$/, "$1초 안에 응답이 없어요."],
  [/^cannot be reached: (.*)$/s, "연결할 수 없어요: $1"],
  [/^no proper answer: (.*)$/s, "올바른 응답이 아니에요: $1"],
];

/** Translates a message of the server into the language of the console. */
export function translated(text: string): string {
  if (lang !== "ko") return text;
  const known = KO_PATTERNS.find(([pattern]) => pattern.test(text));
  return KO[text] ?? (known ? text.replace(...known) : text);
}

const LABELS: Record<string, string> = { profileImage: words.picture, verificationCode: words.code, url: words.webhookUrl };

function labelOf(field: string): string {
  const label: unknown = LABELS[field] ?? words[field as keyof typeof words];
  return typeof label === "string" ? label : field;
}

/** Formats the error of a field for display outside the field. */
export const fieldError = ([name, detail]: [string, string]): string => `${labelOf(name)}: ${translated(detail)}`;

// Texts by HTTP status. They replace the body, which a proxy may have sent.
const STATUSES: Record<number, string> = {
  413: words.tooLarge,
  429: words.tooMany,
  500: words.brokenServer,
};

/** Formats an error for users. */
export function reason(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error && error.message ? error.message : words.brokenServer;
  const wrong = Object.entries(error.fields);
  if (wrong.length) return wrong.map(fieldError).join("; ");
  if (error.problem) return error.problem === "intercepted" ? words.interceptedCall : words.failedCall;
  return STATUSES[error.status] ?? (translated(error.message) || words.failedCall);
}
