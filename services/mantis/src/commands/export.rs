//! `mantis export`: readings or frames into one file, sorted by identity.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use mantis_stores::raw::{
    RawReader,
    export::{self, Export, ExportFormat},
};

use super::query::time_range;
use crate::{
    cli,
    exit::{Exit, Usage},
    output::{grouped, json_line},
};

const BUFFER_BYTES: usize = 1 << 20;

/// Writes the file whole or not at all, and says how many rows it has.
pub async fn export(store: &impl RawReader, args: &cli::Export, as_json: bool) -> Result<Exit> {
    let form = Export {
        format: match args.format {
            cli::ExportFormat::Csv => ExportFormat::Csv,
            cli::ExportFormat::Parquet => ExportFormat::Parquet,
        },
        time_ns: time_range(args.from, args.to),
        with_arrival: args.arrival,
    };
    if args.output == Path::new("-") {
        if args.format == cli::ExportFormat::Parquet && io::stdout().is_terminal() {
            bail!(Usage(anyhow::anyhow!("Parquet is not for a terminal: name a file with --output")));
        }
        if as_json {
            bail!(Usage(anyhow::anyhow!("--json tells about the export, which needs a file of its own: name it with --output")));
        }
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        write(store, args.what, &form, &mut out).await?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    let mut temporary = args.output.clone().into_os_string();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let rows = match to_file(store, args.what, &form, &temporary).await {
        Ok(rows) => rows,
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
    };
    fs::rename(&temporary, &args.output).with_context(|| format!("cannot write {}", args.output.display()))?;
    let what = match args.what {
        cli::ExportWhat::Readings => "readings",
        cli::ExportWhat::Frames => "frames",
    };
    let mut out = io::stdout();
    if as_json {
        json_line(&mut out, &serde_json::json!({ "what": what, "rows": rows, "file": args.output }))?;
    } else {
        writeln!(out, "{} {what} in {}", grouped(rows), args.output.display())?;
    }
    Ok(Exit::Done)
}

async fn to_file(store: &impl RawReader, what: cli::ExportWhat, form: &Export, path: &Path) -> Result<u64> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let rows = write(store, what, form, &mut out).await?;
    let file =
        out.into_inner().map_err(io::IntoInnerError::into_error).with_context(|| format!("cannot write {}", path.display()))?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(rows)
}

async fn write(store: &impl RawReader, what: cli::ExportWhat, form: &Export, out: &mut (impl Write + Send)) -> Result<u64> {
    Ok(match what {
        cli::ExportWhat::Readings => export::readings(store, form, out).await?,
        cli::ExportWhat::Frames => export::frames(store, form, out).await?,
    })
}
