//! Pixels by formula: grey-scale sections of an invented body, noise of a chosen strength, colour bars.

/// A repeatable stream of 64-bit numbers (SplitMix64, Steele et al. 2014): noise, not cryptography.
pub(super) struct Noise(u64);

impl Noise {
    /// The stream of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let b = (a ^ a >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        b ^ b >> 31
    }

    /// About normal with mean 0: the sum of four uniform numbers, scaled to `deviation`.
    pub fn gaussian(&mut self, deviation: f64) -> i16 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xFFFF).sum();
        // Each part is uniform over 65 536 values: the sum's deviation is 65 536 / √3.
        let centred = sum as f64 - 2.0 * 65_535.0;
        (centred / 65_536.0 * 3.0_f64.sqrt() * deviation).round() as i16
    }
}

/// Gaussian noise made once, read at a different place for every image.
pub(super) struct NoiseTile(Vec<i16>);

impl NoiseTile {
    /// A tile of `length` samples.
    pub fn new(seed: u64, length: usize, deviation: f64) -> Self {
        let mut noise = Noise::new(seed);
        Self((0..length).map(|_| noise.gaussian(deviation)).collect())
    }

    /// Up to `count` samples for one row of image number `image`, from where chance says.
    fn row(&self, image: u64, row: usize, count: usize) -> &[i16] {
        let places = self.0.len().saturating_sub(count).max(1);
        let start = Noise::new(image << 32 | row as u64).next() as usize % places;
        let (_, rest) = self.0.split_at(start.min(self.0.len()));
        rest.get(..count).unwrap_or(rest)
    }
}

/// A section of an invented body: ellipses painted one over the other.
pub(super) struct Section {
    /// Columns of the image.
    pub width: usize,
    /// Rows of the image.
    pub height: usize,
    pixels: Vec<i16>,
}

/// An ellipse in fractions of the image: centre and half axes.
#[derive(Clone, Copy)]
pub(super) struct Ellipse(pub f64, pub f64, pub f64, pub f64);

impl Section {
    /// An image filled with one value.
    pub fn new(width: usize, height: usize, value: i16) -> Self {
        Self {
            width,
            height,
            pixels: vec![value; width * height],
        }
    }

    /// A section of a trunk at `level` (0 = top, 1 = bottom): skin, lungs or bowels, spine and a
    /// vessel, in units where air is 0 and water 1000, `air` around the body.
    pub fn trunk(width: usize, height: usize, level: f64, air: i16) -> Self {
        let mut section = Self::new(width, height, air);
        let breath = (level * std::f64::consts::TAU).sin();
        let lung = 0.16 * (1.0 - level).max(0.15);
        section
            .paint(Ellipse(0.5, 0.5, 0.38 + 0.03 * breath, 0.28), 900)
            .paint(Ellipse(0.5, 0.5, 0.36 + 0.03 * breath, 0.26), 1045)
            .paint(Ellipse(0.34, 0.46, lung, lung * 1.2), 180)
            .paint(Ellipse(0.66, 0.46, lung, lung * 1.2), 180)
            .paint(Ellipse(0.44 + 0.05 * level, 0.44, 0.07, 0.08), 1090)
            .paint(Ellipse(0.5, 0.66, 0.05, 0.05), 1600)
            .paint(Ellipse(0.5, 0.66, 0.02, 0.02), 1030)
            .paint(Ellipse(0.47, 0.58, 0.02, 0.02), 1250);
        section
    }

    /// Fills an ellipse.
    pub fn paint(
        &mut self,
        Ellipse(x, y, half_width, half_height): Ellipse,
        value: i16,
    ) -> &mut Self {
        let (width, height) = (self.width as f64, self.height as f64);
        for (row, line) in self.pixels.chunks_mut(self.width.max(1)).enumerate() {
            let offset = ((row as f64 + 0.5) / height - y) / half_height;
            if offset.abs() >= 1.0 {
                continue;
            }
            let half = half_width * (1.0 - offset * offset).sqrt();
            let from = ((x - half) * width).max(0.0) as usize;
            let to = ((x + half) * width).clamp(0.0, width) as usize;
            if let Some(span) = line.get_mut(from..to.max(from)) {
                span.fill(value);
            }
        }
        self
    }

    /// 16-bit little-endian samples with noise, clipped to 0..=`max`, on a circle that touches the
    /// edges; outside of it no noise, as in a reconstructed CT image.
    pub fn noisy(&self, tile: &NoiseTile, image: u64, max: i16) -> Vec<u8> {
        let mut pixels = self.pixels.clone();
        let (width, radius) = (self.width as f64, self.height as f64 / 2.0);
        for (row, line) in pixels.chunks_mut(self.width.max(1)).enumerate() {
            let offset = (row as f64 + 0.5 - radius) / radius;
            let half = (1.0 - offset * offset).max(0.0).sqrt() * width / 2.0;
            let (from, to) = ((width / 2.0 - half) as usize, (width / 2.0 + half) as usize);
            let Some(span) = line.get_mut(from..to) else {
                continue;
            };
            let noise = tile.row(image, row, span.len());
            for (pixel, noise) in span.iter_mut().zip(noise) {
                *pixel = (*pixel + noise).clamp(0, max);
            }
        }
        little_endian(&pixels)
    }

    /// 16-bit little-endian samples.
    pub fn words(&self) -> Vec<u8> {
        little_endian(&self.pixels)
    }

    /// 8-bit samples: each value divided by `divisor` and clipped.
    pub fn bytes(&self, divisor: i16) -> Vec<u8> {
        self.pixels
            .iter()
            .map(|pixel| (pixel / divisor.max(1)).clamp(0, 255) as u8)
            .collect()
    }
}

fn little_endian(samples: &[i16]) -> Vec<u8> {
    let mut bytes = vec![0; samples.len() * 2];
    for (bytes, sample) in bytes.chunks_exact_mut(2).zip(samples) {
        bytes.copy_from_slice(&sample.to_le_bytes());
    }
    bytes
}
