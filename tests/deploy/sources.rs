//! Parses the sources of the program into modules with their imports, functions and types.
//!
//! Modules are followed from `src/lib.rs`, except those that exist only in tests. An import is a `use` declaration or a
//! path in code; links in comments are not imports. Re-exports are resolved to the module that defines the item.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::spanned::Spanned as _;
use syn::visit::Visit;
use syn::{Attribute, Block, Item, ItemUse, Signature, UseTree, Visibility};

/// Path of a module below the crate root. The path of the root is empty.
pub type ModulePath = Vec<String>;

/// Content of one module.
#[derive(Default)]
pub struct Module {
    /// Number of lines in the module's file, not counting the tests at its end. It is zero for an inline module.
    pub lines: usize,
    /// Name and number of lines of each function.
    pub functions: Vec<(String, usize)>,
    /// Names of structs, enums and traits.
    pub types: Vec<String>,
    imports: BTreeSet<Vec<String>>,
    /// Names that the module re-exports, with the paths that they refer to.
    exports: BTreeMap<String, Vec<String>>,
}

/// Modules of a crate by path.
#[derive(Default)]
pub struct Modules(pub BTreeMap<ModulePath, Module>);

impl Modules {
    /// Parses all modules of the program.
    pub fn of_program() -> Self {
        let mut modules = Self::default();
        modules.read(Vec::new(), &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
        modules
    }

    /// Parses the modules of a source file and of its submodules.
    fn read(&mut self, path: ModulePath, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let children = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs") => file.with_file_name(""),
            _ => file.with_extension(""),
        };
        self.add(path.clone(), &parsed.items, &children);
        let lines = |item: &Item| item.span().start().line.saturating_sub(1);
        let tests = parsed.items.iter().rev().take_while(|item| is_test(attributes(item))).last().map(lines);
        if let Some(module) = self.0.get_mut(&path) {
            module.lines = tests.unwrap_or_else(|| text.lines().count());
        }
    }

    /// Adds a module with its items. `children` is the directory of its submodules.
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

    /// Returns the path of the module that defines the item with this absolute path.
    fn resolve(&self, path: &[String]) -> ModulePath {
        let depth = (0..=path.len()).rev().find(|depth| self.0.contains_key(&path[..*depth])).unwrap_or(0);
        let exports = self.0.get(&path[..depth]).map(|module| &module.exports);
        match path.get(depth).and_then(|name| exports?.get(name)) {
            Some(target) if target != path => self.resolve(target),
            _ => path[..depth].to_vec(),
        }
    }

    /// Returns all imports as pairs of modules. Imports between a module and its ancestors are not included.
    pub fn imports(&self) -> BTreeSet<(ModulePath, ModulePath)> {
        let mut pairs = BTreeSet::new();
        for (from, module) in &self.0 {
            for import in &module.imports {
                // A path whose first segment is a submodule is relative.
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

/// Collects the imports, functions and types of one module.
struct Reader<'a> {
    path: &'a ModulePath,
    module: Module,
}

impl Reader<'_> {
    /// Records a path of the module, and returns it with `super` and `self` replaced. Returns `None` if the path leaves
    /// the crate.
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

    fn record_function(&mut self, signature: &Signature, body: &Block) {
        let lines = body.span().end().line - signature.span().start().line + 1;
        self.module.functions.push((signature.ident.to_string(), lines));
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

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.record_function(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.record_function(&function.sig, &function.block);
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.record_function(&function.sig, body);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.module.types.push(item.ident.to_string());
        syn::visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.module.types.push(item.ident.to_string());
        syn::visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.module.types.push(item.ident.to_string());
        syn::visit::visit_item_trait(self, item);
    }
}

/// Returns the paths in a macro's arguments that have more than one segment.
fn paths(tokens: &TokenStream) -> Vec<Vec<String>> {
    let text = tokens.to_string().replace(" :: ", "::");
    let words = text.split(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '_' | ':'));
    let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
    paths.map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
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
