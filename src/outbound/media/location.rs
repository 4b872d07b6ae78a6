//! Location of the image storage, from its URL.

use std::fmt;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::Url;

use crate::store::restrict;

use super::key::ImageKey;
use super::s3_http::{RETRIES, RETRY_TIMEOUT, S3HttpConnector};

/// Location of the image storage. Its `Debug` output contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaLocation {
    /// A folder on this machine or on a shared file system, as an absolute path.
    Folder(PathBuf),
    /// A bucket of an S3 API.
    Bucket {
        /// Name of the bucket.
        name: String,
        /// Prefix of all object names; may be empty.
        prefix: String,
        /// Endpoint, region and credentials.
        settings: S3Settings,
    },
}

/// Settings from the `AWS_…` environment variables: endpoint, region and credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Settings(Vec<(String, String)>);

/// Error for a URL that names neither a folder nor a bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMediaLocation(&'static str);

impl S3Settings {
    /// Collects the non-empty `AWS_…` variables from `variables`.
    pub fn among(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_aws = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
        Self(variables.into_iter().filter(is_aws).collect())
    }

    /// Returns the settings that the driver supports. Other variables are ignored, because they may belong to other
    /// programs.
    fn known(&self) -> impl Iterator<Item = (AmazonS3ConfigKey, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
    }
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl MediaLocation {
    /// Parses `file:///path` or `s3://bucket/prefix`. `settings` is called only for a bucket.
    ///
    /// # Errors
    /// Returns [`InvalidMediaLocation`] with the expected form if the URL has another form.
    pub fn parse(url: &str, settings: impl FnOnce() -> S3Settings) -> Result<Self, InvalidMediaLocation> {
        const EXPECTED: InvalidMediaLocation = InvalidMediaLocation("expected file:///path or s3://bucket/prefix");
        let url = Url::parse(url).map_err(|_| EXPECTED)?;
        match url.scheme() {
            "file" => url
                .to_file_path()
                .map(Self::Folder)
                .map_err(|()| InvalidMediaLocation("expected file:///path with an absolute path")),
            "s3" => {
                let bare = url.query().is_none() && url.fragment().is_none() && url.port().is_none();
                if !bare || !url.username().is_empty() || url.password().is_some() {
                    return Err(InvalidMediaLocation(
                        "expected s3://bucket/prefix and nothing else: endpoint, region and keys are AWS_… variables",
                    ));
                }
                let name = url.host_str().filter(|name| !name.is_empty()).ok_or(EXPECTED)?.to_owned();
                let prefix = Path::from_url_path(url.path()).map_err(|_| EXPECTED)?.to_string();
                Ok(Self::Bucket { name, prefix, settings: settings() })
            }
            _ => Err(EXPECTED),
        }
    }

    pub(super) fn open(&self) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
        match self {
            Self::Folder(path) => {
                private_folder(path)
                    .map_err(|error| object_store::Error::Generic { store: "folder", source: Box::new(error) })?;
                let folder = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
                Ok((Arc::new(folder), Path::default()))
            }
            Self::Bucket { name, prefix, settings } => Ok((bucket(name, settings)?, Path::parse(prefix)?)),
        }
    }
}

/// Creates the folder with access for its owner only. Also restricts the permissions of images that an earlier release
/// made readable for other users. The mode of an existing folder is not changed, because several machines may share the
/// folder.
fn private_folder(path: &std::path::Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let is_image = entry.file_name().to_str().is_some_and(|name| name.parse::<ImageKey>().is_ok());
        if is_image && entry.metadata()?.is_file() {
            restrict(&entry.path(), 0o600);
        }
    }
    Ok(())
}

fn bucket(name: &str, settings: &S3Settings) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    let builder =
        settings.known().fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    let builder = builder.with_http_connector(S3HttpConnector).with_retry(retry).with_bucket_name(name);
    // Objects are deleted one by one, because not every S3 API supports bulk deletion.
    Ok(Arc::new(builder.with_disable_bulk_delete(true).build()?))
}

impl fmt::Display for MediaLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { name, prefix, .. } if prefix.is_empty() => write!(f, "s3://{name}"),
            Self::Bucket { name, prefix, .. } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str) -> Result<MediaLocation, InvalidMediaLocation> {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        MediaLocation::parse(url, || {
            S3Settings::among([
                variable("AWS_ACCESS_KEY_ID", "pintalk"),
                variable("AWS_SECRET_ACCESS_KEY", "s3cret"),
                variable("AWS_REGION", ""),
                variable("AWS_PAGER", "less"),
                variable("HOME", "/root"),
            ])
        })
    }

    #[test]
    fn location_is_a_folder_or_a_bucket_with_a_prefix() {
        assert_eq!(location("file:///var/lib/pin%20talk"), Ok(MediaLocation::Folder("/var/lib/pin talk".into())));
        for (url, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket/pin/talk/", "s3://my.bucket/pin/talk"),
        ] {
            let location = location(url).unwrap();
            assert_eq!(location.to_string(), shown);
            location.open().unwrap();
        }
    }

    #[test]
    fn other_urls_are_rejected() {
        for bad in [
            "images",
            "file://host/images",
            "gs://bucket",
            "s3://",
            "s3:///prefix",
            "s3://key:s3cret@bucket",
            "s3://bucket?region=x",
            "s3://bucket:9000/x",
            "http://bucket",
        ] {
            assert!(location(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bucket_variables_are_used_and_not_printed() {
        let location = location("s3://bucket").unwrap();
        assert!(!format!("{location:?} {location}").contains("s3cret"));
        let MediaLocation::Bucket { settings, .. } = location else { panic!("a folder") };
        let known = [(AmazonS3ConfigKey::AccessKeyId, "pintalk"), (AmazonS3ConfigKey::SecretAccessKey, "s3cret")];
        assert_eq!(settings.known().collect::<Vec<_>>(), known);
    }
}
