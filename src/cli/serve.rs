//! `pintalk serve`: runs a node and returns its exit code.

use tokio::net::TcpListener;

use super::{Failure, block_on, init_logging};
use crate::backend::shutdown::{FORCED, Shutdown};
use crate::domain::Rng;
use crate::domain::clock::SystemClock;
use crate::node;
use crate::node::config::{Config, ServeArgs};
use crate::node::telemetry;

pub(super) fn run(args: ServeArgs) -> Result<u8, Failure> {
    init_logging(args.log.log_format, telemetry::DEFAULT_FILTER);
    telemetry::log_panics();
    let mut config = Config::from_args(args, &Rng::from_entropy())?;
    config.warn();
    block_on(async move {
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Failure::new(format!("--listen: cannot listen on {}: {error}", config.listen)))?;
        let address = listener.local_addr().map_err(Failure::new)?;
        config.bound_to(address)?;
        node(config, listener, || {}).await
    })
}

/// Runs a node on a listener until the node is shut down. Calls `on_ready` when the node serves requests.
pub(super) async fn node(config: Config, listener: TcpListener, on_ready: impl FnOnce()) -> Result<u8, Failure> {
    let shutdown = Shutdown::new();
    // Forces the shutdown if it takes longer than the drain delay plus twice the drain period.
    shutdown.on_signals(config.drain_delay + config.drain * 2).map_err(Failure::new)?;
    telemetry::metrics(&SystemClock).keep_up(&shutdown);
    let traces = telemetry::traces(&config).map_err(Failure::new)?;
    let run = async {
        let app = tokio::select! {
            app = node::build(config) => app?,
            // The shutdown began before the node was built, so no connections have to be drained.
            () = shutdown.draining() => return Ok(()),
        };
        let result = app.run(listener, shutdown.clone(), on_ready).await;
        shutdown.finish().await;
        result
    };
    let outcome = tokio::select! {
        outcome = run => outcome.map(|()| shutdown.exit_code()).map_err(Failure::from),
        () = shutdown.forced() => Ok(FORCED),
    };
    if let Some(traces) = traces {
        traces.finish().await;
    }
    outcome
}
