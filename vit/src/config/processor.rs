//! `preprocessor_config.json` of Hugging Face's transformers: what an image processor does, with the defaults
//! of its class.

use super::preprocess::{Interpolation, Preprocess};
use crate::{checkpoint::Entries, error::Error, warning::Warnings};

pub(crate) const FILE: &str = "preprocessor_config.json";

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// The classes of image processors that are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Class {
    /// Resizes both sides; Swin has it, too.
    Vit,
    /// Resizes both sides and cuts out the centre.
    Deit,
    /// Resizes the shorter side and cuts out the centre: DINOv2's, and CLIP's.
    Bit,
}

/// The sides of an image, as transformers writes them.
#[derive(Clone, Copy)]
enum Size {
    /// One number, which means what the class makes of it.
    Side(usize),
    Shortest(usize),
    Both(usize),
}

impl Size {
    fn side(self) -> usize {
        match self {
            Self::Side(side) | Self::Shortest(side) | Self::Both(side) => side,
        }
    }
}

/// An image processor.
pub(crate) struct Processor {
    entries: Entries,
    class: Class,
    resize: Option<Size>,
    /// The side of the square that is cut out, if one is.
    crop: Option<usize>,
}

impl Processor {
    /// Read the entries; `usual` is the class of the model's kind.
    pub(super) fn new(
        entries: &Entries,
        usual: Class,
        warnings: &mut Warnings,
    ) -> Result<Self, Error> {
        let mut class = usual;
        // Older files have the second, or both.
        for key in ["image_processor_type", "feature_extractor_type"] {
            let Some(name) = entries.text(key)? else {
                continue;
            };
            let known = [
                ("ViTHybrid", None),
                ("ViT", Some(Class::Vit)),
                ("DeiT", Some(Class::Deit)),
                ("Bit", Some(Class::Bit)),
                ("CLIP", Some(Class::Bit)),
            ];
            let found = known.iter().find(|(prefix, _)| name.starts_with(prefix));
            match found {
                Some((_, Some(found))) => class = *found,
                _ => {
                    let text = format!("expected ViT's, DeiT's, Bit's or CLIP's, got `{name}`");
                    warnings.add(&entries.name(key), format!("{text}; read as {usual:?}'s"));
                }
            }
            break;
        }
        let resize = match entries.flag("do_resize")? {
            Some(false) => None,
            _ => Some(size(entries, "size")?.unwrap_or(match class {
                Class::Vit => Size::Both(224),
                Class::Deit => Size::Both(256),
                Class::Bit => Size::Shortest(224),
            })),
        };
        let cuts = entries
            .flag("do_center_crop")?
            .unwrap_or(class != Class::Vit);
        let crop = match cuts {
            true => Some(size(entries, "crop_size")?.map_or(224, Size::side)),
            false => None,
        };
        let processor = Self {
            entries: entries.clone(),
            class,
            resize,
            crop,
        };
        processor.warn(warnings);
        Ok(processor)
    }

    /// Warn of what a model cannot take, and what is done instead.
    fn warn(&self, warnings: &mut Warnings) {
        match self.resize {
            None => {
                let text =
                    "expected true, got false; images of other sizes are resized all the same";
                warnings.add(&self.entries.name("do_resize"), text);
            }
            Some(size) if self.crop.is_none() && self.keeps_aspect(size) => {
                let text =
                    "expected true where the longer side is not resized to the same, got false";
                let text = format!("{text}; the centre is cut out all the same");
                warnings.add(&self.entries.name("do_center_crop"), text);
            }
            Some(_) => {}
        }
    }

    fn keeps_aspect(&self, size: Size) -> bool {
        match size {
            Size::Shortest(_) => true,
            Size::Both(_) => false,
            Size::Side(_) => self.class == Class::Bit,
        }
    }

    /// The side of what comes out, of square images at least, if it does not depend on the image.
    pub(super) fn output(&self) -> Option<usize> {
        self.crop.or(self.resize.map(Size::side))
    }

    /// The name of the entry that says how large the output is.
    pub(super) fn size_key(&self) -> &'static str {
        if self.crop.is_some() {
            "crop_size"
        } else {
            "size"
        }
    }

    /// What it does, in proportion for a model that runs at another size.
    pub(super) fn preprocess(
        &self,
        image_size: usize,
        channels: usize,
    ) -> Result<Preprocess, Error> {
        let entries = &self.entries;
        let (mean, std, usual) = match self.class {
            Class::Vit => ([0.5; 3], [0.5; 3], Interpolation::Bilinear),
            Class::Deit => ([0.5; 3], [0.5; 3], Interpolation::Bicubic),
            Class::Bit => (CLIP_MEAN, CLIP_STD, Interpolation::Bicubic),
        };
        let (resize, keep_aspect) = match self.resize {
            Some(size) => {
                let crop = self.crop.unwrap_or(size.side()).max(1);
                let resize = size.side().saturating_mul(image_size).div_ceil(crop);
                (resize, self.keeps_aspect(size))
            }
            // Images that have the model's size already stay as they are; others have to be resized.
            None => (image_size, true),
        };
        let rescale = match entries.flag("do_rescale")? {
            Some(false) => 1.0,
            _ => entries
                .number("rescale_factor")?
                .map_or(1.0 / 255.0, |factor| factor as f32),
        };
        let statistics = |key: &str, usual: [f32; 3], none: f32| {
            if entries.flag("do_normalize")? == Some(false) {
                return Ok(vec![none; channels]);
            }
            Ok(match entries.numbers(key)? {
                Some(one) if one.len() == 1 => vec![one[0]; channels],
                Some(several) => several,
                None if channels == 1 => vec![usual[0]],
                None => usual.to_vec(),
            })
        };
        Ok(Preprocess {
            resize,
            keep_aspect,
            border: false,
            crop: image_size,
            half_to_even: false,
            interpolation: self.interpolation()?.unwrap_or(usual),
            rescale,
            mean: statistics("image_mean", mean, 0.0)?,
            std: statistics("image_std", std, 1.0)?,
        })
    }

    fn interpolation(&self) -> Result<Option<Interpolation>, Error> {
        match self.entries.count("resample")? {
            None => Ok(None),
            Some(0) => Ok(Some(Interpolation::Nearest)),
            Some(1) => Ok(Some(Interpolation::Lanczos)),
            Some(2) => Ok(Some(Interpolation::Bilinear)),
            Some(3) => Ok(Some(Interpolation::Bicubic)),
            Some(_) => {
                let expected = "0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)";
                Err(self.entries.refuse("resample", expected))
            }
        }
    }
}

/// A side or two, in one of the forms that transformers writes.
fn size(entries: &Entries, key: &str) -> Result<Option<Size>, Error> {
    let refuse = || {
        let forms = r#"{"height": 224, "width": 224}, {"shortest_edge": 224}, [224, 224] or 224"#;
        entries.refuse(key, forms)
    };
    let both = |height: usize, width: usize| match height == width {
        true => Ok(Some(Size::Both(height))),
        false => Err(entries.wrong(key, "a square", format!("{height} × {width}"))),
    };
    match entries.get(key) {
        None => Ok(None),
        Some(value) if value.is_object() => {
            let sides = entries.object(key)?;
            let keys: Vec<&str> = sides.keys().collect();
            match keys[..] {
                ["height", "width"] | ["width", "height"] => both(
                    sides.count("height")?.ok_or_else(refuse)?,
                    sides.count("width")?.ok_or_else(refuse)?,
                ),
                ["shortest_edge"] => Ok(sides.count("shortest_edge")?.map(Size::Shortest)),
                _ => Err(refuse()),
            }
        }
        Some(_) => match entries.counts(key).map_err(|_| refuse())?.as_deref() {
            Some([side]) => Ok(Some(Size::Side(*side))),
            Some([height, width]) => both(*height, *width),
            _ => Err(refuse()),
        },
    }
}
