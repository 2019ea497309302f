// Builds the app: `npm run build -- FOLDER` writes one HTML document with its styles and scripts inside, and the licences
// of the packages that it contains.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

// The messages of zod in fifty languages are a third of the document, and the app shows none of them.
const withoutLocales = {
  name: "without-locales",
  setup({ onLoad }) {
    onLoad({ filter: /zod.v4.locales./ }, ({ path }) =>
      /(en|index)\.js$/.test(path) ? undefined : { contents: "export default () => ({});" },
    );
  },
};

async function bundled(entry) {
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "iife",
    target: ["chrome123", "firefox120", "safari17.5"], // light-dark() of CSS
    charset: "ascii",
    legalComments: "none",
    plugins: [withoutLocales],
    metafile: true,
    write: false,
  });
  const { inputs } = Object.values(metafile.outputs)[0];
  const files = Object.keys(inputs).filter((name) => inputs[name].bytesInOutput > 0);
  const names = files.map((name) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(name)?.[1]);
  return { text: outputFiles[0].text.trim(), packages: [...new Set(names.filter(Boolean))].sort() };
}

async function licenceOf(name) {
  const folder = join("node_modules", name);
  const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const licence = await readFile(join(folder, "LICENSE"), "utf8").catch(() => readFile(join(folder, "LICENSE.md"), "utf8"));
  return `${name} ${version}\n\n${licence.trim()}\n`;
}

const page = await readFile("src/page.html", "utf8");
const styles = await bundled("src/app.css");
const script = await bundled("src/app.js");
const inline = script.text.replaceAll("</script", "<\\/script");
const folder = process.argv[2];
await writeFile(join(folder, "app.html"), page.replace("/* styles */", () => styles.text).replace("/* script */", () => inline));
await writeFile(join(folder, "app.licences.txt"), (await Promise.all(script.packages.map(licenceOf))).join(`\n${"-".repeat(80)}\n\n`));
