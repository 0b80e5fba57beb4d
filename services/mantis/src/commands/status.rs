//! `mantis status`: what the running `up` does.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};

use crate::{config::Config, exit::Exit, output, report, roles::StatusPage, run_file};

const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Prints the state of every worker; exit code 3 when one is in trouble or displaced, records were lost or refused, or
/// the broker takes none.
pub async fn status(config: &Config, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let running = run_file::find(&config.data_dir)?;
    let url = format!("http://{}/status", running.http);
    let page: StatusPage = tokio::task::spawn_blocking(move || get(&url)).await??;
    if as_json {
        output::json_line(out, &page)?;
    } else {
        writeln!(out, "up since {} as process {}, Kafka at {}", report::seconds(page.started), running.pid, running.brokers)?;
        if let Some(refusal) = &page.refusal {
            writeln!(out, "{refusal}")?;
        }
        report::show(&page.workers, out)?;
    }
    let attention = page.refusal.is_some()
        || page.workers.iter().any(|worker| {
            let in_trouble = |topic: &report::TopicReport| {
                topic.gap_offsets > 0
                    || topic.dead_letters > 0
                    || topic.partitions.iter().any(|p| p.reading.starts_with("stopped"))
            };
            worker.state != "running" || worker.displaced.is_some() || worker.topics.iter().any(in_trouble)
        });
    Ok(if attention { Exit::Attention } else { Exit::Done })
}

fn get(url: &str) -> Result<StatusPage> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).build().into();
    let answered = agent.get(url).call().and_then(|mut answer| answer.body_mut().read_json());
    answered.with_context(|| format!("`mantis up` does not answer at {url}: look at its log"))
}
