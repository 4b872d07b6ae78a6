//! What becomes of an upload: a picture that was decoded and written anew, or a reason why not.
//!
//! **Invariant:** nothing of the upload but its pixels is kept. Places and names in its metadata are gone, and so is whatever
//! hides behind its end; a claimed type or file name is never looked at.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops::FilterType as Scaling;
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder as _, ImageFormat, ImageReader, Limits};

use super::key::ImageType;

/// The longest side of a picture that is kept, in pixels: sharp at the size of a palm on any screen.
pub const MAX_SIDE: u32 = 512;

/// The most pixels that are decoded: 4096 × 4096, what cameras of telephones make.
pub const MAX_PIXELS: u64 = 4096 * 4096;

/// The longest side that is decoded: a panorama's, not a line's.
const MAX_DECODED_SIDE: u32 = 16_384;

/// The most memory that decoded pixels may take, in bytes: [`MAX_PIXELS`] of four bytes each.
const MAX_DECODED: u64 = MAX_PIXELS * 4;

/// What a decoder may allocate in all, in bytes: the pixels, and half as much again to make them.
const MAX_ALLOC: u64 = MAX_DECODED + MAX_DECODED / 2;

/// Of a JPEG: where a face shows no artefacts.
const JPEG_QUALITY: u8 = 85;

/// A picture as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// What it is written as.
    pub image_type: ImageType,
    /// The file.
    pub bytes: Bytes,
}

/// Why an upload is no picture. The text completes "The image …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing that begins as these do.
    #[error("is not a PNG, JPEG, WebP or GIF")]
    Unknown,
    /// More than is decoded.
    #[error("has too many pixels: at most 4096 x 4096 are possible")]
    TooLarge,
    /// It begins well, and then it does not go on.
    #[error("is damaged")]
    Damaged,
    /// Behind its end there is something else: a page, a script, an archive.
    #[error("is followed by something else")]
    Tail,
}

impl Picture {
    /// Makes a picture of an upload: upright, no larger than [`MAX_SIDE`], the first frame of an animation. Takes up to a
    /// second of a core and 200 MB; not for an async thread.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn of(upload: &[u8]) -> Result<Self, Refusal> {
        let format = format_of(upload)?;
        let (decoded, orientation) = decode(upload, format)?;
        // First made small, which turns faster; both sides have the same bound.
        let mut image = if decoded.width().max(decoded.height()) > MAX_SIDE {
            decoded.resize(MAX_SIDE, MAX_SIDE, Scaling::CatmullRom)
        } else {
            decoded
        };
        image.apply_orientation(orientation);
        write(&image, format)
    }
}

/// By the first bytes alone.
fn format_of(upload: &[u8]) -> Result<ImageFormat, Refusal> {
    match image::guess_format(upload) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif)) => Ok(format),
        Ok(_) | Err(_) => Err(Refusal::Unknown),
    }
}

fn decode(upload: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Refusal> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_DECODED_SIDE);
    limits.max_image_height = Some(MAX_DECODED_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    let mut reader = ImageReader::with_format(Cursor::new(upload), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| refusal(&error))?;
    // Told by the head of the file: nothing has been decoded yet.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED {
        return Err(Refusal::TooLarge);
    }
    // The decoder fills up with grey what a JPEG lacks.
    if format == ImageFormat::Jpeg && !has_end(upload) {
        return Err(Refusal::Damaged);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| refusal(&error))?;
    if has_tail(upload, format) {
        return Err(Refusal::Tail);
    }
    Ok((image, orientation))
}

/// Whether there is more than an image. Zeros are padding. What telephones make is a JPEG with a film or another picture behind
/// it: that is left out, as all is but the pixels.
fn has_tail(upload: &[u8], format: ImageFormat) -> bool {
    let end = upload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match format {
        ImageFormat::Png => !upload[..end].ends_with(b"IEND\xae\x42\x60\x82"),
        ImageFormat::Gif => !upload[..end].ends_with(b";"),
        ImageFormat::WebP => {
            let declared = upload.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
            end as u64 > u64::from(declared) + 8
        }
        _ => false,
    }
}

fn refusal(error: &image::ImageError) -> Refusal {
    match error {
        image::ImageError::Limits(_) => Refusal::TooLarge,
        _ => Refusal::Damaged,
    }
}

/// Whether a JPEG's first scan is followed by an end of the image. Within a scan 0xFF 0xD9 cannot occur; in the segments
/// before it, where thumbnails are, it can.
fn has_end(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const FILL: u8 = 0xff;
    let mut rest = jpeg.get(2..).unwrap_or_default();
    loop {
        match *rest {
            [0xff, START_OF_SCAN, ..] => return rest.windows(2).any(|pair| pair == [0xff, 0xd9]),
            [0xff, FILL, ..] => rest = &rest[1..],
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(next) = rest.get(2 + length.max(2)..) else { return false };
                rest = next;
            }
            _ => return false,
        }
    }
}

/// Photographs stay JPEG; a WebP is taken for one, unless one can see through it.
fn write(image: &DynamicImage, was: ImageFormat) -> Result<Picture, Refusal> {
    let is_photo = matches!(was, ImageFormat::Jpeg | ImageFormat::WebP);
    let (rgb, rgba) = (image.to_rgb8(), image.to_rgba8());
    let is_opaque = rgba.pixels().all(|pixel| pixel.0[3] == u8::MAX);
    let image_type = if is_opaque && is_photo { ImageType::Jpeg } else { ImageType::Png };
    let (pixels, color) =
        if is_opaque { (rgb.as_raw(), ExtendedColorType::Rgb8) } else { (rgba.as_raw(), ExtendedColorType::Rgba8) };
    let (width, height) = (image.width(), image.height());
    let mut bytes = Vec::new();
    let written = match image_type {
        ImageType::Jpeg => {
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(pixels, width, height, color)
        }
        ImageType::Png => PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
            .write_image(pixels, width, height, color),
    };
    // Memory takes all that is written.
    written.map_err(|_| Refusal::Damaged)?;
    Ok(Picture { image_type, bytes: bytes.into() })
}

#[cfg(test)]
mod tests;
