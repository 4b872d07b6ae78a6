//! Images for uploads in tests.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};

pub(crate) const RED: Rgba<u8> = Rgba([220, 20, 20, 255]);
pub(crate) const BLUE: Rgba<u8> = Rgba([20, 20, 220, 255]);

/// Creates an image that is red on the left and blue on the right.
pub(crate) fn flag(width: u32, height: u32) -> DynamicImage {
    RgbaImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE }).into()
}

/// Encodes an image as a file.
pub(crate) fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    // JPEG does not support transparency.
    let flat = DynamicImage::from(image.to_rgb8());
    let image = if format == ImageFormat::Jpeg { &flat } else { image };
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Creates a PNG of [`flag`].
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    file(&flag(width, height), ImageFormat::Png)
}

/// Encodes a PNG chunk.
pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(data);
    let mut crc = u32::MAX;
    for byte in &bytes[4..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes.extend_from_slice(&(!crc).to_be_bytes());
    bytes
}

/// Creates a PNG of a few bytes that declares the given size and number of bits per sample.
pub(crate) fn bomb(width: u32, height: u32, bits: u8) -> Vec<u8> {
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend_from_slice(&[bits, 6, 0, 0, 0]);
    let (head, body, end) =
        (chunk(b"IHDR", &head), chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]), chunk(b"IEND", &[]));
    [b"\x89PNG\r\n\x1a\n".as_slice(), &head, &body, &end].concat()
}

/// Creates a JPEG with metadata as phones write it: orientation and location.
pub(crate) fn telephone_jpeg(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let jpeg = file(image, ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend_from_slice(&[1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    // The entry refers to the GPS block, which contains `PLACE` here.
    exif.extend_from_slice(&[0x88, 0x25, 0, 4, 0, 0, 0, 1, 0, 0, 0, 38]);
    exif.extend_from_slice(&[0; 4]);
    exif.extend_from_slice(PLACE);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

/// Location in the metadata. It must not appear in stored pictures.
pub(crate) const PLACE: &[u8] = b"37.5665N 126.9780E, at home";

/// Returns whether `part` occurs in `bytes`.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
