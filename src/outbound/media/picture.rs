//! Converts uploads to pictures: decodes and re-encodes an image, or returns the reason why it is rejected.
//!
//! **Invariant:** only the pixels of an upload are kept. Metadata, such as GPS positions and names, is removed. Data
//! after the end of a JPEG image is removed; images of other formats with such data, other than zero bytes, are
//! rejected. The claimed content type and file name are ignored.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops::FilterType as Scaling;
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder as _, ImageFormat, ImageReader, Limits};

use super::key::ImageType;

/// Maximum width and height of a stored picture, in pixels. At the size of profile images, such a picture is sharp on
/// every screen.
pub const MAX_SIDE: u32 = 512;

/// Maximum number of pixels that are decoded: 4096 × 4096, the size of photographs from phones.
pub const MAX_PIXELS: u64 = 4096 * 4096;

/// Maximum width and height that are decoded, in pixels. The limit allows panoramas.
const MAX_DECODED_SIDE: u32 = 16_384;

/// Maximum size of the decoded pixels in bytes: [`MAX_PIXELS`] of four bytes each.
const MAX_DECODED: u64 = MAX_PIXELS * 4;

/// Maximum allocation of a decoder in bytes: the pixels, plus half as much for decoding.
const MAX_ALLOC: u64 = MAX_DECODED + MAX_DECODED / 2;

/// JPEG quality, from 1 to 100. At this value, faces show no artefacts.
const JPEG_QUALITY: u8 = 85;

/// A re-encoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Format of the file.
    pub image_type: ImageType,
    /// Content of the file.
    pub bytes: Bytes,
}

/// Reason why an upload is rejected. The message completes the sentence "The image …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRejection {
    /// The file does not start with the signature of a supported format.
    #[error("is not a PNG, JPEG, WebP or GIF")]
    Unknown,
    /// The dimensions of the image exceed a limit.
    #[error("has too many pixels: at most 4096 x 4096 are possible")]
    TooLarge,
    /// The file is incomplete or invalid.
    #[error("is damaged")]
    Damaged,
    /// The image is followed by something else, such as an HTML page, a script or an archive.
    #[error("is followed by something else")]
    Tail,
}

impl Picture {
    /// Converts an upload to an upright picture with sides of at most [`MAX_SIDE`]. The picture of an animation is its
    /// first frame. The conversion takes up to one second of CPU time and 200 MB of memory, so it must not run on an
    /// async thread.
    ///
    /// # Errors
    /// Returns an [`ImageRejection`] if the upload is not an acceptable image.
    pub fn of(upload: &[u8]) -> Result<Self, ImageRejection> {
        let format = format_of(upload)?;
        let (decoded, orientation) = decode(upload, format)?;
        // Scaling the image first makes the rotation faster. The order does not affect the result, because width and
        // height have the same limit.
        let mut image = if decoded.width().max(decoded.height()) > MAX_SIDE {
            decoded.resize(MAX_SIDE, MAX_SIDE, Scaling::CatmullRom)
        } else {
            decoded
        };
        image.apply_orientation(orientation);
        write(&image, format)
    }
}

/// Detects the format from the first bytes of the file.
fn format_of(upload: &[u8]) -> Result<ImageFormat, ImageRejection> {
    match image::guess_format(upload) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif)) => Ok(format),
        Ok(_) | Err(_) => Err(ImageRejection::Unknown),
    }
}

fn decode(upload: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), ImageRejection> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_DECODED_SIDE);
    limits.max_image_height = Some(MAX_DECODED_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    let mut reader = ImageReader::with_format(Cursor::new(upload), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| rejection(&error))?;
    // The dimensions are read from the header of the file, before the pixels are decoded.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED {
        return Err(ImageRejection::TooLarge);
    }
    // The decoder fills missing parts of a JPEG with grey instead of returning an error, so the end of the file is
    // checked here.
    if format == ImageFormat::Jpeg && !has_end(upload) {
        return Err(ImageRejection::Damaged);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| rejection(&error))?;
    if has_tail(upload, format) {
        return Err(ImageRejection::Tail);
    }
    Ok((image, orientation))
}

/// Returns whether data other than zero padding follows the image. Returns `false` for every JPEG: phones append a
/// video or another picture to JPEG files, and re-encoding removes such data.
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

fn rejection(error: &image::ImageError) -> ImageRejection {
    match error {
        image::ImageError::Limits(_) => ImageRejection::TooLarge,
        _ => ImageRejection::Damaged,
    }
}

/// Returns whether the first scan of a JPEG is followed by an end-of-image marker (0xFF 0xD9). These bytes cannot occur
/// within a scan. They can occur before the scan, because earlier segments may contain thumbnails.
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

/// Encodes an image. JPEG and opaque WebP become JPEG, and all other images become PNG.
fn write(image: &DynamicImage, was: ImageFormat) -> Result<Picture, ImageRejection> {
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
    // Writing to memory does not fail, so every error comes from the encoder.
    written.map_err(|_| ImageRejection::Damaged)?;
    Ok(Picture { image_type, bytes: bytes.into() })
}

#[cfg(test)]
mod tests;
