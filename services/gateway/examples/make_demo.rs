//! Makes the demo recording: `cargo run -p mantis-gateway --example make_demo` from the root of the repository.
//!
//! A cooling-water pump warms up and settles; its pressure follows the load, its current rises with it; the bearing's
//! vibration has the shaft's 24.5 Hz, its harmonic and the ringing of a small outer-race defect.

use std::{error::Error, f64::consts::TAU, fmt::Write, fs};

const ROWS: u64 = 3_600;
const STEP_S: u64 = 2;
const SAMPLES: u64 = 12_288;
const RATE_HZ: f64 = 2_048.0;

fn main() -> Result<(), Box<dyn Error>> {
    let mut noise = Noise(0x4d41_4e54_4953);
    let mut csv = String::from("time,temperature,pressure,current\n");
    for row in 0..ROWS {
        let seconds = row * STEP_S;
        let t = seconds as f64;
        let load = 1.0 + 0.08 * (TAU * t / 1_500.0).sin();
        let temperature = 61.0 - 23.0 * (-t / 1_400.0).exp() + 1.2 * load + 0.05 * noise.next();
        let pressure = 4.2 * load + 0.03 * noise.next();
        let current = 11.6 * load.powf(1.4) + 0.08 * noise.next();
        let (hour, minute, second) = (8 + seconds / 3_600, seconds / 60 % 60, seconds % 60);
        writeln!(csv, "2026-03-02 {hour:02}:{minute:02}:{second:02},{temperature:.2},{pressure:.3},{current:.2}")?;
    }
    fs::write("examples/demo/pump-7.csv", csv)?;

    let mut waveform = Vec::new();
    for sample in 0..SAMPLES {
        let t = sample as f64 / RATE_HZ;
        let shaft = 0.35 * (TAU * 24.5 * t).sin() + 0.12 * (TAU * 49.0 * t + 0.7).sin();
        let since_hit = t % (1.0 / 87.3);
        let defect = 0.6 * (-since_hit * 900.0).exp() * (TAU * 780.0 * since_hit).sin();
        let value = shaft + defect + 0.04 * noise.next();
        waveform.extend(((value * 1e6).round() / 1e6).to_le_bytes());
    }
    fs::write("examples/demo/pump-7.f64le", waveform)?;
    Ok(())
}

/// Noise of about unit deviation: the sum of twelve numbers from [0, 1) less 6, from a linear congruential generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        }
        sum
    }
}
