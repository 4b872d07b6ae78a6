//! Key of a stored image. The key contains the image type.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Format of stored images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageType {
    /// PNG, for drawings and for images with transparency.
    Png,
    /// JPEG, for photographs.
    Jpeg,
}

impl ImageType {
    /// Returns the value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }
}

/// Name of a stored image: `<22 URL-safe characters>.<png or jpg>`. The characters encode 128 random bits and contain
/// no user input.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImageKey {
    text: String,
    image_type: ImageType,
}

/// Error for a string that is not a valid image key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image key")]
pub struct InvalidImageKey;

impl ImageKey {
    /// Creates a key from 16 random bytes.
    pub fn from_random(bytes: [u8; 16], image_type: ImageType) -> Self {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(bytes), image_type.extension());
        Self { text, image_type }
    }

    /// Returns the key as stored in the database and used in paths.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the format of the image.
    pub fn image_type(&self) -> ImageType {
        self.image_type
    }
}

impl FromStr for ImageKey {
    type Err = InvalidImageKey;
    fn from_str(text: &str) -> Result<Self, InvalidImageKey> {
        let (name, extension) = text.split_once('.').ok_or(InvalidImageKey)?;
        let types = [ImageType::Png, ImageType::Jpeg];
        let image_type = types.into_iter().find(|known| known.extension() == extension).ok_or(InvalidImageKey)?;
        let is_name = name.len() == 22 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_name { Ok(Self { text: text.to_owned(), image_type }) } else { Err(InvalidImageKey) }
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_can_be_parsed() {
        for image_type in [ImageType::Png, ImageType::Jpeg] {
            let key = ImageKey::from_random([0xfb; 16], image_type);
            assert_eq!(key.as_str().parse(), Ok(key.clone()));
            assert_eq!(key.image_type(), image_type);
        }
    }

    #[test]
    fn invalid_keys_are_rejected() {
        let name = "d20aF0TvSdeWk-iPXf3l_Q";
        assert!(format!("{name}.png").parse::<ImageKey>().is_ok());
        for bad in [
            String::new(),
            name.into(),
            format!("{name}."),
            format!("{name}.gif"),
            format!("{name}.PNG"),
            format!("{name}.png.png"),
            format!("{name}.png/"),
            format!("x{name}.png"),
            "../../../../etc/passwd".into(),
            "..%2f..%2f..%2f..%2fetc.png".into(),
            format!("한{}.png", &name[3..]),
        ] {
            assert_eq!(bad.parse::<ImageKey>(), Err(InvalidImageKey), "{bad}");
        }
    }
}
