//! What is in a folder of images, and what of it is passed over.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use image::ImageFormat;

use super::failure::Failure;
use crate::{readable, warning::Warnings};

/// Images that are found and what is not, each in sorted order.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) images: Vec<PathBuf>,
    /// Folders without an image in them or below; not those within such a folder.
    pub(super) empty: Vec<PathBuf>,
    hidden_folders: Vec<PathBuf>,
    hidden_images: Vec<PathBuf>,
    /// Links to folders that were found otherwise, too.
    again: Vec<PathBuf>,
    dangling: Vec<PathBuf>,
    other_formats: Vec<PathBuf>,
    /// Real paths of the folders.
    seen: HashSet<PathBuf>,
}

/// Names of images that are not read here.
const OTHER_FORMATS: [&str; 24] = [
    "apng", "arw", "avif", "cr2", "cr3", "dds", "dng", "exr", "hdr", "heic", "heif", "ico", "jp2",
    "jxl", "nef", "orf", "pbm", "pgm", "ppm", "psd", "raw", "svg", "tif", "tiff",
];

/// How many of what was passed over are named.
const NAMED: usize = 10;

impl Walk {
    /// Look into `folder` and the folders in it, each real folder once.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let mut walk = Self::default();
        walk.enter(folder)?;
        walk.empty.retain(|empty| empty != folder);
        walk.images.sort();
        walk.empty.sort();
        Ok(walk)
    }

    /// Tell what was passed over in `root`.
    pub(super) fn warn(&self, root: &Path, warnings: &mut Warnings) {
        for (paths, one, many) in [
            (
                &self.empty,
                "folder without images",
                "folders without images",
            ),
            (&self.hidden_folders, "hidden folder", "hidden folders"),
            (&self.hidden_images, "hidden image", "hidden images"),
            (
                &self.again,
                "link to a folder that is read already",
                "links to folders that are read already",
            ),
            (&self.dangling, "link to nothing", "links to nothing"),
            (
                &self.other_formats,
                "image of another format than jpg, png, webp, bmp or gif, or without such a name",
                "images of other formats than jpg, png, webp, bmp or gif, or without such a name",
            ),
        ] {
            passed_over(root, paths, [one, many], warnings);
        }
    }

    fn enter(&mut self, folder: &Path) -> Result<(), Failure> {
        let real = fs::canonicalize(folder).map_err(|error| unreadable(folder, &error))?;
        if !self.seen.insert(real) {
            self.again.push(folder.into());
            return Ok(());
        }
        let before = self.images.len();
        let mut entries = entries(folder)?;
        // A folder is known by its own name rather than by that of a link.
        entries.sort_by_key(|path| (path.is_symlink(), path.clone()));
        for path in entries {
            self.take(path)?;
        }
        if self.images.len() == before {
            self.empty.retain(|empty| !empty.starts_with(folder));
            self.empty.push(folder.into());
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf) -> Result<(), Failure> {
        let hidden = name(&path).starts_with('.');
        let readable = ImageFormat::from_path(&path).is_ok_and(|format| format.reading_enabled());
        match fs::metadata(&path) {
            Err(_) if path.is_symlink() => self.dangling.push(path),
            Ok(found) if found.is_dir() && hidden => self.hidden_folders.push(path),
            Ok(found) if found.is_dir() => return self.enter(&path),
            _ if readable && hidden => self.hidden_images.push(path),
            _ if readable => self.images.push(path),
            _ if !hidden && is_image(&path) => self.other_formats.push(path),
            _ => {}
        }
        Ok(())
    }
}

/// Whether a file that has not the name of an image that is read here is one all the same.
fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase());
    let named = extension.is_some_and(|extension| OTHER_FORMATS.contains(&&*extension));
    named || {
        let mut head = Vec::new();
        let read = readable::open(path).and_then(|file| file.take(64).read_to_end(&mut head));
        read.is_ok() && image::guess_format(&head).is_ok()
    }
}

/// Warn of `paths` in `root`, which are called `kind`, one and many.
pub(super) fn passed_over(
    root: &Path,
    paths: &[PathBuf],
    [one, many]: [&str; 2],
    warnings: &mut Warnings,
) {
    if paths.is_empty() {
        return;
    }
    let kind = if paths.len() == 1 { one } else { many };
    let text = format!("passed over {} {kind}: {}", paths.len(), names(root, paths));
    warnings.add(&root.display().to_string(), text);
}

/// The first of these paths in `root`, and how many more there are.
pub(super) fn names(root: &Path, paths: &[PathBuf]) -> String {
    let inside = |path: &PathBuf| {
        path.strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut names: Vec<String> = paths.iter().take(NAMED).map(inside).collect();
    if paths.len() > NAMED {
        names.push(format!("and {} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// The last part of a path, for people.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What is in a folder, in no order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<Result<_, _>>()
    });
    entries.map_err(|error| unreadable(folder, &error))
}

fn unreadable(folder: &Path, error: &std::io::Error) -> Failure {
    let folder = folder.display();
    format!("{folder}: expected a folder that can be read, got: {error}").into()
}
