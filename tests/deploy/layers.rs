//! The structure of the sources: a layer imports only layers below it, and sibling modules form no cycle.
//!
//! Modules are followed from `src/lib.rs`, without those that exist only in tests. An import is a `use` declaration or a
//! path in code; re-exports are resolved to the module that defines the item. Doc links are no imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::visit::Visit;
use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

/// The layers of `src/lib.rs`, lowest first. Modules of one entry are neighbours.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["protocol"],
    &["store"],
    &["backend"],
    &["outbound"],
    &["accounts"],
    &["chat"],
    &["http"],
    &["ws", "web"],
    &["node"],
    &["cli"],
];

/// Path of a module below the crate root; the root itself is empty.
type ModulePath = Vec<String>;

/// Imports and re-exports of a module.
#[derive(Default)]
struct Module {
    imports: BTreeSet<Vec<String>>,
    /// Names that the module re-exports, with the path that each stands for.
    exports: BTreeMap<String, Vec<String>>,
}

/// The modules of a crate.
#[derive(Default)]
struct Modules(BTreeMap<ModulePath, Module>);

impl Modules {
    /// Reads the modules of a source file and of the files below it.
    fn read(&mut self, path: ModulePath, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let children = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs") => file.with_file_name(""),
            _ => file.with_extension(""),
        };
        self.add(path, &parsed.items, &children);
    }

    /// Adds a module with its items; `children` is the directory of its submodules.
    fn add(&mut self, path: ModulePath, items: &[Item], children: &Path) {
        let mut reader = Reader { path: &path, module: Module::default() };
        let mut submodules = Vec::new();
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(module) => submodules.push(module),
                item => reader.visit_item(item),
            }
        }
        let module = reader.module;
        self.0.insert(path.clone(), module);
        for submodule in submodules {
            let name = submodule.ident.to_string();
            let inner = [path.clone(), vec![name.clone()]].concat();
            match &submodule.content {
                Some((_, items)) => self.add(inner, items, &children.join(name)),
                None => self.read(inner, &children.join(name).with_extension("rs")),
            }
        }
    }

    /// Returns the module that defines what an absolute path names.
    fn resolve(&self, path: &[String]) -> ModulePath {
        let depth = (0..=path.len()).rev().find(|depth| self.0.contains_key(&path[..*depth])).unwrap_or(0);
        let exports = self.0.get(&path[..depth]).map(|module| &module.exports);
        match path.get(depth).and_then(|name| exports?.get(name)) {
            Some(target) if target != path => self.resolve(target),
            _ => path[..depth].to_vec(),
        }
    }

    /// Returns every import as a pair of modules, except those between a module and its own ancestors.
    fn imports(&self) -> BTreeSet<(ModulePath, ModulePath)> {
        let mut pairs = BTreeSet::new();
        for (from, module) in &self.0 {
            for import in &module.imports {
                // A path that begins with a submodule is relative.
                let relative = [from.clone(), vec![import[0].clone()]].concat();
                let absolute = match import[0].as_str() {
                    "crate" => import[1..].to_vec(),
                    _ if self.0.contains_key(&relative) => [from.as_slice(), import].concat(),
                    _ => continue,
                };
                let to = self.resolve(&absolute);
                if !to.starts_with(from) && !from.starts_with(&to) {
                    pairs.insert((from.clone(), to));
                }
            }
        }
        pairs
    }
}

/// Collects the imports of one module.
struct Reader<'a> {
    path: &'a ModulePath,
    module: Module,
}

impl Reader<'_> {
    /// Records a path as it stands in the module. `super` and `self` become absolute.
    fn record(&mut self, segments: &[String]) -> Option<Vec<String>> {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let path = match segments.first()?.as_str() {
            "super" => {
                let ancestor = &self.path[..self.path.len().checked_sub(ups)?];
                [&["crate".to_owned()], ancestor, &segments[ups..]].concat()
            }
            "self" => [&["crate".to_owned()], self.path.as_slice(), &segments[1..]].concat(),
            _ => segments.to_vec(),
        };
        self.module.imports.insert(path.clone());
        Some(path)
    }

    fn record_use(&mut self, tree: &UseTree, prefix: &[String], is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[path.ident.to_string()]].concat();
                self.record_use(&path.tree, &prefix, is_export);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.record_use(tree, prefix, is_export));
            }
            UseTree::Name(name) => self.record_name(&name.ident.to_string(), None, prefix, is_export),
            UseTree::Rename(name) => {
                self.record_name(&name.ident.to_string(), Some(name.rename.to_string()), prefix, is_export);
            }
            UseTree::Glob(_) => {
                self.record(prefix);
            }
        }
    }

    fn record_name(&mut self, name: &str, renamed: Option<String>, prefix: &[String], is_export: bool) {
        let path = if name == "self" { prefix.to_vec() } else { [prefix, &[name.to_owned()]].concat() };
        let Some(path) = self.record(&path) else { return };
        if is_export {
            let absolute = match path[0].as_str() {
                "crate" => path[1..].to_vec(),
                _ => [self.path.as_slice(), &path].concat(),
            };
            self.module.exports.insert(renamed.unwrap_or_else(|| name.to_owned()), absolute);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.record_use(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.record(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        for path in paths(&call.tokens) {
            self.record(&path);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }
}

/// Paths of more than one segment in the arguments of a macro.
fn paths(tokens: &TokenStream) -> Vec<Vec<String>> {
    let text = tokens.to_string().replace(" :: ", "::");
    let words = text.split(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '_' | ':'));
    let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
    paths.map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn modules() -> Modules {
    let mut modules = Modules::default();
    modules.read(Vec::new(), &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    modules
}

#[test]
fn a_layer_imports_only_layers_below_it() {
    let modules = modules();
    let rank = |module: &ModulePath| LAYERS.iter().position(|layer| layer.contains(&module[0].as_str()));
    let top_level: BTreeSet<&str> = modules.0.keys().filter(|path| path.len() == 1).map(|path| path[0].as_str()).collect();
    let layers: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    assert_eq!(top_level, layers, "each module of src/ is in a layer");
    let imports = modules.imports();
    assert!(imports.len() > 500, "the imports are found: {}", imports.len());
    let upward: Vec<String> = imports
        .iter()
        .filter(|(from, to)| rank(from) < rank(to))
        .map(|(from, to)| format!("{} imports {}", from.join("::"), to.join("::")))
        .collect();
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn sibling_modules_form_no_cycle() {
    /// Imports between the submodules of one module, each with an example.
    type Siblings<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;
    let imports = modules().imports();
    let mut families: BTreeMap<&[String], Siblings<'_>> = BTreeMap::new();
    for (from, to) in &imports {
        let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        let example = format!("{} imports {}", from.join("::"), to.join("::"));
        let siblings = families.entry(&from[..common]).or_default();
        siblings.entry(&from[common]).or_default().entry(&to[common]).or_insert(example);
    }
    let mut cycles = Vec::new();
    for siblings in families.values() {
        for start in siblings.keys() {
            let (mut pending, mut reached) = (vec![*start], BTreeMap::new());
            while let Some(module) = pending.pop() {
                for (next, example) in siblings.get(module).into_iter().flatten() {
                    if !reached.contains_key(next) {
                        reached.insert(*next, example);
                        pending.push(next);
                    }
                }
            }
            cycles.extend(reached.get(start).map(|example| format!("{example}, in a cycle of {start}")));
        }
    }
    assert!(cycles.is_empty(), "{cycles:#?}");
}
