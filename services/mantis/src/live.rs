//! The live view of `mantis up`: a table that is drawn again in place on a terminal, a line per change elsewhere.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    report::{self, WorkerReport},
    run_file::Running,
};

/// What was shown last.
#[derive(Debug)]
pub struct Live {
    running: Running,
    data_dir: PathBuf,
    as_json: bool,
    terminal: bool,
    introduced: bool,
    lines_drawn: usize,
    rows_shown: u64,
}

impl Live {
    /// Nothing shown yet.
    pub fn new(running: &Running, data_dir: &Path, as_json: bool, terminal: bool) -> Self {
        let (running, data_dir) = (running.clone(), data_dir.to_owned());
        Self { running, data_dir, as_json, terminal, introduced: false, lines_drawn: 0, rows_shown: 0 }
    }

    /// Shows the workers now. Without a terminal only when rows have come.
    pub fn show(&mut self, workers: &[WorkerReport]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let shown = self.write(workers, &mut out).and_then(|()| out.flush());
        // Whoever read the view may go; the road goes on.
        shown.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }

    fn write(&mut self, workers: &[WorkerReport], out: &mut impl Write) -> io::Result<()> {
        let rows = workers.iter().flat_map(|worker| &worker.topics).map(|topic| topic.rows).sum();
        let changed = rows != self.rows_shown || !self.introduced;
        self.rows_shown = rows;
        if self.as_json {
            return if changed {
                self.introduced = true;
                serde_json::to_writer(&mut *out, &serde_json::json!({ "workers": workers }))?;
                writeln!(out)
            } else {
                Ok(())
            };
        }
        if !self.introduced {
            self.introduce(out)?;
        }
        if !self.terminal && !changed {
            return Ok(());
        }
        let mut view = Vec::new();
        report::show(workers, &mut view)?;
        if self.terminal && self.lines_drawn > 0 {
            // Up to the first line of the last view, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
        }
        self.lines_drawn = view.iter().filter(|byte| **byte == b'\n').count();
        out.write_all(&view)
    }

    fn introduce(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.introduced = true;
        let Running { brokers, http, .. } = &self.running;
        writeln!(out, "MANTIS is up: Kafka at {brokers}, pages at http://{http}/status, data in {}", self.data_dir.display())?;
        writeln!(out, "Topics mantis.readings and mantis.waveforms wait for gateways; Ctrl-C stops.\n")
    }
}
