// How the widget looks. A page changes it through the variables that begin with --pintalk.

const DARK = `
  --surface: #17191f;
  --raised: #252831;
  --line: #323642;
  --ink: #f1f2f6;
  --faint: #a3a9b8;
  --accent: var(--pintalk-accent, #4c5fe8);
  --online: #3ddc84;
  --danger: #ff8a92;
  --shade: rgb(0 0 0 / 55%);
`;

export const STYLE = `
  :host {
    --surface: #fff;
    --raised: #f1f2f5;
    --line: #e3e5ea;
    --ink: #1a1c22;
    --faint: #5f6574;
    --accent: var(--pintalk-accent, #3d50e0);
    --on-accent: var(--pintalk-on-accent, #fff);
    --online: #0f9d4f;
    --danger: #b9273a;
    --shade: rgb(20 24 40 / 18%);
    --radius: var(--pintalk-radius, 20px);
    --offset: var(--pintalk-offset, 20px);
    all: initial;
    position: fixed;
    z-index: var(--pintalk-z-index, 2147483000);
    inset: auto var(--offset) var(--offset) auto;
    font: 15px/1.45 var(--pintalk-font, system-ui, "Apple SD Gothic Neo", "Noto Sans KR", sans-serif);
    color: var(--ink);
    color-scheme: light dark;
    -webkit-text-size-adjust: 100%;
  }
  :host([position="left"]) { inset: auto auto var(--offset) var(--offset); }
  @media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
  :host([theme="dark"]) { ${DARK} color-scheme: dark; }
  :host([theme="light"]) { color-scheme: light; }
  @media print { :host { display: none; } }
  * { box-sizing: border-box; margin: 0; padding: 0; }
  .hear { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  [hidden] { display: none !important; }
  button, textarea { font: inherit; color: inherit; background: none; border: 0; }
  button { cursor: pointer; }
  svg { display: block; width: 22px; height: 22px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  textarea:focus-visible { outline: none; }

  .launcher {
    position: relative;
    display: grid;
    place-items: center;
    width: 56px;
    height: 56px;
    margin-left: auto;
    border-radius: 50%;
    background: var(--accent);
    color: var(--on-accent);
    box-shadow: 0 6px 20px var(--shade);
    transition: transform 0.15s;
  }
  .launcher:hover { transform: scale(1.05); }
  .launcher svg { width: 26px; height: 26px; }
  :host([position="left"]) .launcher { margin-left: 0; }
  .dot { flex: none; width: 9px; height: 9px; border-radius: 50%; background: var(--faint); }
  .dot.on { background: var(--online); }
  .launcher .dot { position: absolute; right: 3px; bottom: 3px; width: 14px; height: 14px; border: 3px solid var(--surface); }
  .badge {
    position: absolute;
    top: -4px;
    right: -4px;
    min-width: 21px;
    padding: 0 6px;
    border-radius: 11px;
    background: #c8243c;
    color: #fff;
    font-size: 12px;
    font-weight: 700;
    line-height: 21px;
    text-align: center;
  }

  .panel {
    position: absolute;
    right: 0;
    bottom: 72px;
    display: flex;
    flex-direction: column;
    width: 376px;
    height: min(620px, calc(100vh - 72px - 2 * var(--offset)));
    border-radius: var(--radius);
    background: var(--surface);
    box-shadow: 0 16px 48px var(--shade), 0 0 0 1px var(--line);
    overflow: hidden;
    animation: rise 0.18s ease-out;
  }
  :host([position="left"]) .panel { right: auto; left: 0; }
  @keyframes rise { from { opacity: 0; transform: translateY(10px); } }

  header { display: flex; align-items: center; gap: 12px; padding: 14px 10px 14px 18px; border-bottom: 1px solid var(--line); }
  .avatar {
    flex: none;
    display: grid;
    place-items: center;
    width: 38px;
    height: 38px;
    border-radius: 50%;
    background: var(--accent);
    color: var(--on-accent);
    font-weight: 650;
    object-fit: cover;
    overflow: hidden;
  }
  .avatar img { width: 100%; height: 100%; object-fit: cover; }
  .who { flex: 1; min-width: 0; }
  .name { font-size: 15px; font-weight: 650; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .presence { display: flex; align-items: center; gap: 6px; color: var(--faint); font-size: 12.5px; line-height: 1.35; }
  .tool { display: grid; place-items: center; width: 38px; height: 38px; border-radius: 50%; color: var(--faint); }
  .tool:hover { background: var(--raised); color: var(--ink); }

  .talk { position: relative; flex: 1; min-height: 0; overflow-y: auto; overflow-anchor: none; overscroll-behavior: contain; padding: 16px 16px 8px; scrollbar-width: thin; scrollbar-color: var(--line) transparent; }
  ol { list-style: none; display: flex; flex-direction: column; gap: 3px; min-height: 100%; justify-content: flex-end; }
  li { display: flex; flex-direction: column; align-items: flex-start; max-width: 84%; }
  li.mine { align-self: flex-end; align-items: flex-end; }
  li.first { margin-top: 9px; }
  li.day { align-self: center; max-width: none; margin: 14px 0 4px; color: var(--faint); font-size: 12px; }
  .bubble {
    max-width: 100%;
    padding: 8px 13px;
    border-radius: 18px;
    background: var(--raised);
    white-space: pre-wrap;
    overflow-wrap: anywhere;
    unicode-bidi: plaintext;
    text-align: start;
  }
  .mine .bubble { background: var(--accent); color: var(--on-accent); }
  .last .bubble { border-end-start-radius: 6px; }
  .mine.last .bubble { border-end-start-radius: 18px; border-end-end-radius: 6px; }
  .sending .bubble { opacity: 0.65; }
  .meta { display: flex; gap: 6px; padding: 2px 4px 0; color: var(--faint); font-size: 11.5px; font-variant-numeric: tabular-nums; }
  .meta button, .failed .meta { color: var(--danger); }
  .meta button { font-size: inherit; font-weight: 600; text-decoration: underline; }
  .hint { margin: auto; padding: 0 28px 24px; color: var(--faint); text-align: center; text-wrap: balance; word-break: keep-all; }
  .newer { position: sticky; bottom: 4px; display: block; margin: 0 auto; padding: 6px 14px; border-radius: 16px; background: var(--ink); color: var(--surface); font-size: 13px; font-weight: 600; box-shadow: 0 4px 14px var(--shade); }
  .notice { padding: 0 18px; color: var(--faint); font-size: 12.5px; line-height: 22px; min-height: 22px; overflow: hidden; text-overflow: ellipsis; }
  .notice.loud { padding: 8px 18px; background: var(--raised); color: var(--ink); line-height: 1.4; }
  form { display: flex; align-items: flex-end; gap: 8px; margin: 4px 14px 14px; padding: 5px 5px 5px 16px; border: 1px solid var(--line); border-radius: 23px; }
  form:focus-within { outline: 2px solid var(--accent); outline-offset: -1px; }
  textarea { flex: 1; min-width: 0; max-height: min(132px, 20vh); padding: 6px 0; resize: none; unicode-bidi: plaintext; scrollbar-width: thin; }
  textarea::placeholder { color: var(--faint); opacity: 1; }
  .send { flex: none; display: grid; place-items: center; width: 34px; height: 34px; border-radius: 50%; background: var(--accent); color: var(--on-accent); }
  .send svg { width: 18px; height: 18px; }
  .send:disabled { background: var(--raised); color: var(--faint); cursor: default; }

  @media (max-width: 480px) {
    :host([open]) { inset: 0; }
    :host([open]) .launcher { display: none; }
    .panel { position: fixed; inset: 0; width: auto; height: min(100dvh, 100%); border-radius: 0; box-shadow: none; }
    textarea { font-size: 16px; }
  }
  @media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;
