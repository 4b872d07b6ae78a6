use image::codecs::gif::GifEncoder;
use image::{Frame, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;
use crate::outbound::media::testing::{BLUE, PLACE, RED, bomb, chunk, contains, file, flag, png, telephone_jpeg};

const FORMATS: [ImageFormat; 4] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif];

/// Lossy WebP image of one pixel, written by another program.
const LOSSY_WEBP: &[u8] =
    b"RIFF\x22\0\0\0WEBPVP8 \x16\0\0\0\x30\x01\0\x9d\x01\x2a\x01\0\x01\0\x0e\xc0\xfe\x25\xa4\0\x03\x70\0\0\0\0";

fn read(picture: &Picture) -> RgbaImage {
    let format = match picture.image_type {
        ImageType::Png => ImageFormat::Png,
        ImageType::Jpeg => ImageFormat::Jpeg,
    };
    image::load_from_memory_with_format(&picture.bytes, format).unwrap().to_rgba8()
}

fn is_near(pixel: Rgba<u8>, color: Rgba<u8>) -> bool {
    pixel.0.iter().zip(color.0).all(|(one, other)| one.abs_diff(other) < 40)
}

#[test]
fn every_format_is_reencoded_and_scaled_down() {
    for format in FORMATS {
        let picture = Picture::of(&file(&flag(1200, 600), format)).unwrap();
        let wanted = match format {
            ImageFormat::Jpeg | ImageFormat::WebP => ImageType::Jpeg,
            _ => ImageType::Png,
        };
        assert_eq!(picture.image_type, wanted, "{format:?}");
        let image = read(&picture);
        assert_eq!(image.dimensions(), (512, 256), "{format:?}");
        assert!(is_near(*image.get_pixel(20, 128), RED) && is_near(*image.get_pixel(490, 128), BLUE), "{format:?}");
    }
    assert_eq!(read(&Picture::of(LOSSY_WEBP).unwrap()).dimensions(), (1, 1));
}

#[test]
fn small_image_keeps_its_size_and_narrow_one_keeps_a_pixel() {
    assert_eq!(read(&Picture::of(&png(30, 20)).unwrap()).dimensions(), (30, 20));
    assert_eq!(read(&Picture::of(&png(512, 513)).unwrap()).dimensions(), (511, 512));
    assert_eq!(read(&Picture::of(&png(4000, 1)).unwrap()).dimensions(), (512, 1));
}

#[test]
fn transparency_is_kept() {
    let glass: DynamicImage = RgbaImage::from_pixel(40, 40, Rgba([10, 200, 10, 90])).into();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let picture = Picture::of(&file(&glass, format)).unwrap();
        assert_eq!(picture.image_type, ImageType::Png);
        assert_eq!(read(&picture).get_pixel(20, 20), &Rgba([10, 200, 10, 90]));
    }
}

#[test]
fn every_pixel_format_is_decoded() {
    let image = flag(40, 20);
    let kinds: [DynamicImage; 6] = [
        image.to_luma8().into(),
        image.to_luma_alpha8().into(),
        image.to_rgb8().into(),
        image.to_luma16().into(),
        image.to_rgb16().into(),
        image.to_rgba16().into(),
    ];
    for kind in kinds {
        assert_eq!(read(&Picture::of(&file(&kind, ImageFormat::Png)).unwrap()).dimensions(), (40, 20));
    }
}

#[test]
fn animation_becomes_its_first_frame() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for color in [RED, BLUE] {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(30, 30, color))).unwrap();
    }
    drop(encoder);
    let picture = Picture::of(&bytes).unwrap();
    assert!(is_near(*read(&picture).get_pixel(15, 15), RED));
}

#[test]
fn photograph_is_upright_and_has_no_location() {
    let upload = telephone_jpeg(&flag(200, 100), 6);
    assert!(contains(&upload, PLACE));
    let picture = Picture::of(&upload).unwrap();
    let image = read(&picture);
    assert_eq!(image.dimensions(), (100, 200));
    assert!(is_near(*image.get_pixel(50, 10), RED) && is_near(*image.get_pixel(50, 190), BLUE));
    for secret in [PLACE, b"Exif", b"GPS"] {
        assert!(!contains(&picture.bytes, secret));
    }
    // The image is upside down and larger than a stored picture.
    let image = read(&Picture::of(&telephone_jpeg(&flag(1024, 256), 3)).unwrap());
    assert_eq!(image.dimensions(), (512, 128));
    assert!(is_near(*image.get_pixel(10, 64), BLUE));
}

#[test]
fn file_with_other_data_after_its_end_is_rejected() {
    for tail in [b"<!doctype html><script>alert(document.domain)</script>".as_slice(), b"PK\x03\x04", b"=1;/*"] {
        for format in FORMATS {
            let upload = [&file(&flag(40, 20), format), tail].concat();
            let padded = [&file(&flag(40, 20), format), [0; 9].as_slice()].concat();
            assert!(Picture::of(&padded).is_ok(), "{format:?}");
            // A JPEG with a tail is accepted, because phones append a video.
            let expected = if format == ImageFormat::Jpeg { None } else { Some(ImageRejection::Tail) };
            assert_eq!(Picture::of(&upload).err(), expected, "{format:?}");
        }
    }
}

#[test]
fn only_pixels_of_a_polyglot_file_are_kept() {
    const PAGE: &[u8] = b"<!doctype html><script>alert(document.domain)</script>";
    let upload = [&file(&flag(40, 20), ImageFormat::Jpeg), PAGE].concat();
    assert!(!contains(&Picture::of(&upload).unwrap().bytes, b"script"));
    let plain = png(40, 20);
    let after_the_head = 8 + 25;
    let text = chunk(b"tEXt", &[b"Comment\0".as_slice(), PAGE].concat());
    let upload = [&plain[..after_the_head], &text, &plain[after_the_head..]].concat();
    let picture = Picture::of(&upload).unwrap();
    assert_eq!(picture, Picture::of(&plain).unwrap());
    assert_eq!(chunks(&picture.bytes), ["IHDR", "IDAT", "IEND"]);
}

/// Returns the types of the chunks of a PNG.
fn chunks(png: &[u8]) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut rest = &png[8..];
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        kinds.push(String::from_utf8(tail[..4].to_vec()).unwrap());
        rest = &tail[8 + length..];
    }
    kinds
}

#[test]
fn decompression_bomb_is_rejected_by_its_header() {
    assert_eq!(Picture::of(&bomb(50_000, 50_000, 8)), Err(ImageRejection::TooLarge));
    assert_eq!(Picture::of(&bomb(u32::MAX >> 1, 1, 8)), Err(ImageRejection::TooLarge));
    assert_eq!(Picture::of(&bomb(4097, 4096, 8)), Err(ImageRejection::TooLarge));
    assert_eq!(Picture::of(&bomb(4096, 4096, 16)), Err(ImageRejection::TooLarge));
    // The dimensions are at the limit, so the size check passes. Decoding fails because the file contains no image
    // data.
    assert_eq!(Picture::of(&bomb(4096, 4096, 8)), Err(ImageRejection::Damaged));
    let mut gif = file(&flag(4, 4), ImageFormat::Gif);
    gif[6..10].copy_from_slice(&[0xff; 4]);
    assert_eq!(Picture::of(&gif), Err(ImageRejection::TooLarge));
    let mut jpeg = file(&flag(8, 8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert_eq!(Picture::of(&jpeg), Err(ImageRejection::TooLarge));
    let mut webp = LOSSY_WEBP.to_vec();
    webp[26..30].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    assert_eq!(Picture::of(&webp), Err(ImageRejection::TooLarge));
}

#[test]
fn compressed_profile_is_limited_in_memory() {
    let plain = png(40, 20);
    let profile = [b"icc\0\0".as_slice(), &deflated_zeros(4 * usize::try_from(MAX_ALLOC).unwrap())].concat();
    let upload = [&plain[..33], &chunk(b"iCCP", &profile), &plain[33..]].concat();
    assert!(upload.len() < 5 * 1024 * 1024);
    assert_eq!(Picture::of(&upload), Picture::of(&plain));
}

/// Returns a zlib stream that decompresses to at least `count` zeros. The stream contains one zero and then references
/// of 13 bits, each of which adds 258 zeros.
fn deflated_zeros(count: usize) -> Vec<u8> {
    let bits = |text: &'static str| text.bytes().map(|bit| bit == b'1');
    let repeated = std::iter::repeat_n("1100010100000", count / 258 + 1).flat_map(bits);
    let all: Vec<bool> = bits("110").chain(bits("00110000")).chain(repeated).chain(bits("0000000")).collect();
    let bytes = all.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
    [0x78, 0x9c].into_iter().chain(bytes).collect()
}

#[test]
fn incomplete_image_is_rejected() {
    for format in FORMATS {
        let whole = file(&noise(64, 64), format);
        for cut in [whole.len() / 2, whole.len() * 3 / 4] {
            assert_eq!(Picture::of(&whole[..cut]), Err(ImageRejection::Damaged), "{format:?} of {cut} bytes");
        }
    }
    // A file with half of its picture is incomplete, even if it contains a complete thumbnail.
    let whole = telephone_jpeg(&noise(64, 64), 1);
    let mut thumbnail = whole[..whole.len() / 2].to_vec();
    let place = thumbnail.windows(PLACE.len()).position(|window| window == PLACE).unwrap();
    thumbnail[place..place + 2].copy_from_slice(&[0xff, 0xd9]);
    assert_eq!(Picture::of(&thumbnail), Err(ImageRejection::Damaged));
}

/// Creates an image that no format compresses well.
fn noise(width: u32, height: u32) -> DynamicImage {
    let at =
        |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519) >> 16;
    RgbaImage::from_fn(width, height, |x, y| {
        let [a, b, c, _] = at(x, y).to_le_bytes();
        Rgba([a, b, c.wrapping_add(a), 255])
    })
    .into()
}

#[test]
fn unknown_signatures_and_other_formats_are_rejected() {
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    for other in
        [b"".as_slice(), b"\x89PN", svg, b"BM\x3a\0\0\0", b"II\x2a\0\x08\0\0\0", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE"]
    {
        assert_eq!(Picture::of(other), Err(ImageRejection::Unknown), "{other:?}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_a_decoder(format in 0..FORMATS.len(), at in 0_usize..400, put in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut upload = file(&noise(16, 16), FORMATS[format]);
        let at = at % upload.len();
        let end = (at + put.len()).min(upload.len());
        upload[at..end].copy_from_slice(&put[..end - at]);
        let _either = Picture::of(&upload);
    }
}
