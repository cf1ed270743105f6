//! Sizes out of the shapes of a few tensors, and the rest out of what the checkpoint states, what
//! the caller asks for, or the habits of the architecture.

use super::{
    description::Config,
    overrides::Overrides,
    preprocess::{Habit, Preprocess},
    processor::{self, Class, Processor},
    reader::Reader,
    stated::{Sidecars, Stated},
};
use crate::{
    checkpoint::{Names, Tensors},
    error::Error,
    warning::Warnings,
};

impl Config {
    /// Work out the sizes from the shapes of a few tensors; all shapes are checked against them when
    /// the tensors are taken. What is guessed is added to `warnings`.
    pub(crate) fn read(
        tensors: &Tensors<'_>,
        names: &Names,
        sidecars: &Sidecars,
        overrides: &Overrides,
        warnings: &mut Warnings,
    ) -> Result<Self, Error> {
        let reader = Reader {
            tensors,
            names,
            stated: &sidecars.config,
            overrides,
        };
        reader.agree_kind()?;
        let (architecture, trained_size) = match names.is_swin() {
            true => reader.swin(warnings)?,
            false => reader.vit(warnings)?,
        };
        let habit = reader.habit(&architecture);
        let processor = match &sidecars.preprocessor {
            Some(entries) => {
                let usual = match habit {
                    Habit::Dino => Class::Bit,
                    Habit::ImageNet if !names.is_swin() => Class::Deit,
                    _ => Class::Vit,
                };
                Some(Processor::new(entries, usual, warnings)?)
            }
            None => None,
        };
        let output = processor.as_ref().and_then(Processor::output);
        // DINOv2 and Swin run at what their preprocessors give, whatever they were trained at.
        let flexible = habit == Habit::Dino || names.is_swin();
        let usual = output.filter(|_| flexible && names.is_hugging_face());
        let image_size = overrides.image_size.or(usual).unwrap_or(trained_size);
        if let (Some(entries), Some(processor), Some(output)) =
            (&sidecars.preprocessor, &processor, output)
            && output != image_size
            && overrides.image_size.is_none()
        {
            let key = processor.size_key();
            let expected = format!("{image_size}, the image size of the model");
            return Err(entries.wrong(key, &expected, output.to_string()));
        }
        let [_, channels, ..] = reader.patch_weight()?;
        let mut preprocess = match (&processor, &sidecars.config) {
            (Some(processor), _) => processor.preprocess(image_size, channels)?,
            (None, Stated::Timm(timm)) => {
                Preprocess::timm(timm.pretrained(), image_size, channels)?
            }
            (None, _) => {
                let mut preprocess = Preprocess::habit(habit, image_size, channels);
                reader.own_or_guessed(&mut preprocess, warnings)?;
                preprocess
            }
        };
        if let (Some(_), Stated::Timm(_)) = (&processor, &sidecars.config) {
            let text = "expected only one file to say how images are made, got config.json, too";
            warnings.add(processor::FILE, format!("{text}; this one counts"));
        }
        overrides.apply(&mut preprocess, warnings);
        let classes = reader.classes()?;
        let config = Self {
            architecture,
            image_size,
            channels,
            classes,
            labels: reader.labels(classes, warnings)?,
            judgement: reader.judgement(classes)?,
            preprocess,
        };
        config.check()?;
        Ok(config)
    }
}
