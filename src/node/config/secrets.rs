//! Option values that contain secrets and must not appear in logs or error messages.
//!
//! **Invariant:** the output of `Debug` and `Display` contains no secret. Clap parses these options as [`Hidden`],
//! which accepts any string, because clap's error messages contain the rejected value.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::values::InvalidValue;

/// Help heading of the options that read a secret from a file.
pub const FILES: &str = "Secrets in files";

/// Unparsed option value whose `Debug` output hides the string.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Returns the string, which may be a secret and must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(***)")
    }
}

/// Secret that was read from a file, without the line break at its end. Clap reads the file when it parses the option,
/// so that an error contains the option and the path, but not the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(Hidden);

impl FromStr for SecretFile {
    type Err = InvalidValue;
    fn from_str(path: &str) -> Result<Self, InvalidValue> {
        let bytes =
            std::fs::read(path).map_err(|error| InvalidValue::new(format!("the file cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| InvalidValue::new("the file is not UTF-8 text"))?;
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if secret.trim().is_empty() {
            return Err(InvalidValue::new("the file is empty"));
        }
        Ok(Self(Hidden(secret.to_owned())))
    }
}

/// Secret with the option that contains it: the value itself or a file. Clap accepts only one of the two options.
#[derive(Clone, Copy)]
pub struct Secret<'a> {
    /// Name of the option, without dashes.
    pub flag: &'static str,
    /// The secret, which must not be logged.
    pub text: &'a str,
}

impl<'a> Secret<'a> {
    /// Returns the secret that is set. `flags` are the names of the two options.
    pub fn of(flags: [&'static str; 2], value: Option<&'a Hidden>, file: Option<&'a SecretFile>) -> Option<Self> {
        let [value_flag, file_flag] = flags;
        let value = value.map(|value| Self { flag: value_flag, text: value.expose() });
        value.or(file.map(|file| Self { flag: file_flag, text: file.0.expose() }))
    }
}

/// Keys for access tokens. The first key signs new tokens, and all keys verify tokens. A key can therefore be replaced
/// while tokens that it signed are still valid.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecrets(Vec<String>);

impl JwtSecrets {
    /// Minimum length of a key in bytes: the output size of the hash function of HS256.
    pub const MIN_LEN: usize = 32;

    /// Parses a comma-separated list of keys.
    pub fn parse(list: &str) -> Result<Self, InvalidValue> {
        let keys: Vec<String> = list.split(',').map(|key| key.trim().to_owned()).collect();
        match keys.iter().position(|key| key.len() < Self::MIN_LEN) {
            None => Ok(Self(keys)),
            Some(_) if keys.len() == 1 => {
                Err(InvalidValue::new(format!("the secret is shorter than {} bytes", Self::MIN_LEN)))
            }
            Some(at) => {
                Err(InvalidValue::new(format!("secret {} of the list is shorter than {} bytes", at + 1, Self::MIN_LEN)))
            }
        }
    }

    /// Returns the key that signs tokens.
    pub fn signing(&self) -> &[u8] {
        self.0.first().map_or(&[], |key| key.as_bytes())
    }

    /// Returns the keys that verify tokens, with the signing key first.
    pub fn verifying(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| key.as_bytes())
    }
}

impl fmt::Debug for JwtSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtSecrets({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keys_have_at_least_32_bytes() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let keys = JwtSecrets::parse(&format!("{new}, {old}")).unwrap();
        assert_eq!(keys.signing(), new.as_bytes());
        assert_eq!(keys.verifying().collect::<Vec<_>>(), [new.as_bytes(), old.as_bytes()]);
        for bad in ["", "short", &format!("{new},"), &format!("{new},short")] {
            let error = JwtSecrets::parse(bad).unwrap_err();
            assert!(!error.to_string().contains(&new), "{error}");
        }
    }

    #[test]
    fn file_contains_a_secret_of_any_characters_and_a_last_line_break_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().parse::<SecretFile>()
        };
        for (content, secret) in
            [("p", "p"), ("p \n", "p "), ("p\r\n", "p"), ("p\n\n", "p\n"), (" @:/?#%41é\"\n", " @:/?#%41é\"")]
        {
            assert_eq!(read(content.as_bytes()).unwrap().0.expose(), secret);
        }
        for content in [b"".as_slice(), b"\n", b"s3cret\xff"] {
            assert!(!read(content).unwrap_err().to_string().contains("s3cret"));
        }
        assert!(!format!("{:?}", read(b"s3cret").unwrap()).contains("s3cret"));
        assert!(dir.path().to_str().unwrap().parse::<SecretFile>().is_err());
    }
}
