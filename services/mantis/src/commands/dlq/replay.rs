//! `mantis dlq replay`: sends dead letters to their topics again.

use std::{io::Write, time::SystemTime};

use anyhow::{Result, bail};
use mantis_kafka::{
    ClientConfig,
    letters::{self, Filter, LETTERS_MAX, Sent},
};
use serde_json::json;

use crate::{
    exit::{Exit, Usage},
    output,
};

/// Sends what `filter` wants; exit code 3 when not all of it could be sent or looked at.
pub async fn replay(client: &ClientConfig, filter: &Filter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let found = letters::oldest(client, filter, LETTERS_MAX).await?;
    if let (Some(position), true) = (&filter.position, found.records.is_empty()) {
        bail!(Usage(anyhow::anyhow!("there is no open dead letter of {position}: `mantis dlq list --all` lists what there is")));
    }
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let Sent { replayed, failed, failures } = letters::replay(client, &found, now_ms).await?;
    if as_json {
        let more_from = found.more_from.as_ref().map(ToString::to_string);
        output::json_line(out, &json!({"replayed": replayed, "not_sent": failed, "failed": failures, "more_from": more_from}))?;
    } else {
        writeln!(out, "{replayed} records sent to their topics again; what is refused once more becomes a new dead letter")?;
        for failure in &failures {
            writeln!(out, "  not sent: {failure}")?;
        }
        if failed > failures.len() as u64 {
            writeln!(out, "  and {} more", failed - failures.len() as u64)?;
        }
        if let Some(more_from) = &found.more_from {
            writeln!(out, "{}", super::text::more(more_from))?;
        }
    }
    Ok(if failed == 0 && found.more_from.is_none() { Exit::Done } else { Exit::Attention })
}
