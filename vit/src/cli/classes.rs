//! Which folder holds which class.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{
    class_map::{self, ClassMap},
    failure::Failure,
    walk::{self, Walk},
};
use crate::{config::Config, warning::Warnings};

/// An image of a class.
pub(super) struct Labelled {
    pub(super) path: PathBuf,
    pub(super) class: usize,
}

impl AsRef<Path> for Labelled {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// What says the class of a folder.
enum Names {
    Map(ClassMap),
    Labels(Labels),
    Numbers,
    /// Nothing but the place in this sorted list.
    Order(Vec<String>),
}

/// The images in the folders of `root`, with their classes; and how many of the folders are classes.
///
/// A class map says the class of a folder if there is one. Otherwise names of folders that are all labels, or
/// all numbers, do. Otherwise folders are classes in sorted order, if there are as many.
pub(super) fn find(
    root: &Path,
    config: &Config,
    map: Option<&Path>,
    warnings: &mut Warnings,
) -> Result<(usize, Vec<Labelled>), Failure> {
    let mut walk = Walk::of(root)?;
    let mut folders: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut outside = Vec::new();
    for image in std::mem::take(&mut walk.images) {
        match folder_of(root, &image) {
            Some(folder) => folders.entry(folder).or_default().push(image),
            None => outside.push(image),
        }
    }
    if folders.is_empty() {
        let root = root.display();
        return Err(format!(
            "{root}: expected a folder for each class with images in it, got none"
        )
        .into());
    }
    let labels = Labels::of(config);
    let classes = config.classes;
    let names = match map {
        Some(path) => Names::Map(class_map::read(path, classes, |name| labels.find(name))?),
        None => names(root, &folders, labels, classes, &walk.empty)?,
    };
    // A class may have no images.
    let is_class =
        |path: &PathBuf| path.parent() == Some(root) && names.class(&walk::name(path)).is_some();
    let (without, empty): (Vec<_>, Vec<_>) = walk.empty.into_iter().partition(is_class);
    walk.empty = empty;
    let count = folders.len() + without.len();
    if count > classes {
        return Err(format!(
            "{}: expected at most {classes} folders, one for each class of the model, got {count}",
            root.display()
        )
        .into());
    }
    let mut all = Vec::new();
    for (name, images) in &folders {
        let class = names.class(name).filter(|class| *class < classes);
        let class = class.ok_or_else(|| {
            let root = root.display();
            format!("{root}: expected folders of {classes} classes, got `{name}`, which is none")
        })?;
        let images = images.iter().cloned();
        all.extend(images.map(|path| Labelled { path, class }));
    }
    walk.warn(root, warnings);
    let kind = [
        "image in no folder of a class",
        "images in no folder of a class",
    ];
    walk::passed_over(root, &outside, kind, warnings);
    if let Names::Order(order) = &names {
        let order: Vec<PathBuf> = order.iter().map(PathBuf::from).collect();
        let order = walk::names(root, &order);
        warnings.add(
            &root.display().to_string(),
            format!(
                "expected folders named by labels or numbers of classes, got others; assumed classes 0 to {} \
                 in this order: {order} (--class-map says otherwise)",
                classes - 1
            ),
        );
    }
    Ok((count, all))
}

/// The name of the folder in `root` that this image is in or below.
fn folder_of(root: &Path, image: &Path) -> Option<String> {
    let inside = image.strip_prefix(root).ok()?;
    let mut parts = inside.components();
    let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
    parts.next().map(|_| first)
}

/// What the names of folders are.
fn names(
    root: &Path,
    folders: &BTreeMap<String, Vec<PathBuf>>,
    labels: Labels,
    classes: usize,
    empty: &[PathBuf],
) -> Result<Names, Failure> {
    let names: Vec<String> = folders.keys().cloned().collect();
    let known = |is: &dyn Fn(&str) -> bool| names.iter().filter(|name| is(name)).count();
    let labelled = known(&|name| labels.find(name).is_some());
    let numbered = known(&|name| number(name).is_some());
    let root_name = root.display();
    match names.len() {
        all if labelled == all => Ok(Names::Labels(labels)),
        all if numbered == all => Ok(Names::Numbers),
        _ if labelled > 0 || numbered > 0 => {
            let is_known = |name: &&String| match labelled > 0 {
                true => labels.find(name).is_some(),
                false => number(name).is_some(),
            };
            let kind = if labelled > 0 { "labels" } else { "numbers" };
            let other = names.iter().find(|name| !is_known(name));
            Err(format!(
                "{root_name}: expected folders named by {kind} of classes, as `{}` is, got `{}` \
                 (--class-map says what it is)",
                names.iter().find(is_known).map_or("", String::as_str),
                other.map_or("", String::as_str),
            )
            .into())
        }
        all if all == classes => Ok(Names::Order(names)),
        all => {
            let without = match empty {
                [] => String::new(),
                _ => format!(", and without images: {}", walk::names(root, empty)),
            };
            Err(format!(
                "{root_name}: expected folders named by labels or numbers of classes, or {classes} folders \
                 with images, which are classes in sorted order, got {all} with other names{without} \
                 (--class-map says which they are)"
            )
            .into())
        }
    }
}

impl Names {
    fn class(&self, name: &str) -> Option<usize> {
        match self {
            Self::Map(map) => map.get(name).copied(),
            Self::Labels(labels) => labels.find(name),
            Self::Numbers => number(name),
            Self::Order(names) => names.iter().position(|other| other == name),
        }
    }
}

fn number(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok())?
}

/// Classes by what they are called: as it stands; without regard to case, spaces, hyphens and underscores; or
/// by one of several names with commas between. What two classes are called is no name.
struct Labels([HashMap<String, Option<usize>>; 3]);

impl Labels {
    fn of(config: &Config) -> Self {
        let mut maps = [(); 3].map(|()| HashMap::new());
        let mut add = |map: usize, name: String, class: usize| {
            maps[map]
                .entry(name)
                .and_modify(|other| {
                    if *other != Some(class) {
                        *other = None;
                    }
                })
                .or_insert(Some(class));
        };
        for (class, label) in config.labels.iter().enumerate() {
            // Some classes have no label.
            let Some(label) = label else { continue };
            add(0, label.clone(), class);
            add(1, plain(label), class);
            for part in label.split(',') {
                add(2, plain(part), class);
            }
        }
        for map in &mut maps {
            map.remove("");
        }
        Self(maps)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let [exact, plainly, parts] = &self.0;
        let plain = plain(name);
        let found = exact.get(name).or(plainly.get(&plain));
        found.or(parts.get(&plain)).copied().flatten()
    }
}

fn plain(label: &str) -> String {
    let words = label.split([' ', '_', '-']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}
