// Files that were dropped or chosen, and the folders that hold them.

const paths = new WeakMap(); // file -> its path within the drop

/** The names of the folders that hold this file, the innermost first; none for a file that came alone. */
export function foldersOf(file) {
  return (paths.get(file) ?? file.webkitRelativePath ?? "").split("/").slice(0, -1).reverse();
}

/**
 * Files by class: those of a folder of class folders by the name of their class folder, and those of a single folder by
 * its name. Files that came alone are left out.
 */
export function byClassFolder(files) {
  const classes = new Map();
  for (const file of files) {
    const [outermost, ...inner] = foldersOf(file).reverse();
    const name = inner[0] ?? outermost;
    if (name) classes.set(name, [...(classes.get(name) ?? []), file]);
  }
  return classes;
}

/** All files of a drop, including those in folders. The entries must be read before the first await. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.filter(Boolean).map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    paths.set(file, entry.fullPath.slice(1));
    return [file];
  }
  const reader = entry.createReader();
  const entries = [];
  for (let some; !some || some.length; entries.push(...some)) { // readEntries returns at most a hundred
    some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
  }
  return (await Promise.all(entries.map(inside))).flat();
}
