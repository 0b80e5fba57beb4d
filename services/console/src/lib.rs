//! The web console: what runs, what the stores hold, what was refused. It reads through the same stores as everybody.
//!
//! Pages are whole without a script; the one script only reads them again. Every list, chart and question is bounded, and a
//! page says where it was cut. A store that fails costs its panel, not the page. Nobody is asked who they are: whoever
//! reaches the address may look and send dead letters again.

mod ask;
mod chart;
mod directory;
mod features;
mod guard;
mod history;
pub mod letters;
mod pages;
mod period;
mod recent;
mod site;
mod static_files;
mod text;
mod waveform;

use std::sync::Arc;

use axum::Router;

pub use history::READINGS_MAX;
pub use pages::{ASSETS_SHOWN_MAX, SENSORS_SHOWN_MAX};
pub use site::{Declared, Irregular, Site, Topic, Worker, WorkerState};

/// The pages of the console, `/` among them.
pub fn routes<S: Site>(site: Arc<S>) -> Router {
    pages::routes(Arc::new(pages::Console::new(site)))
}
