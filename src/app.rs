//! Stand-in.
#![allow(missing_docs, clippy::unused_async)]
use tokio::net::TcpListener;

use crate::config::Config;
use crate::shutdown::Shutdown;

#[derive(Debug, thiserror::Error)]
#[error("stand-in")]
pub struct AppError;

pub struct App;

pub async fn build(_: Config) -> Result<App, AppError> {
    Ok(App)
}

impl App {
    pub async fn run(self, _listener: TcpListener, shutdown: Shutdown) -> Result<(), AppError> {
        shutdown.draining().await;
        Ok(())
    }
}
