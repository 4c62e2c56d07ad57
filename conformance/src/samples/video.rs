//! Short valid video streams, built without an encoder: nothing here compresses well.
//!
//! [`mpeg2`] writes intra pictures with the mean of each 8 × 8 block alone. [`h264`] writes one picture of
//! uncompressed macroblocks and repeats it. Both decode with any player; the H.264 stream keeps the
//! profile and level of the Blu-ray transfer syntax but makes no claim to that disc format's other rules.

/// Most significant bit first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Appends the `count` low bits of `value`.
    fn put(&mut self, value: u32, count: u32) -> &mut Self {
        for shift in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> shift & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used % 8);
            }
            self.used += 1;
        }
        self
    }

    /// Fills the byte with zeros.
    fn align(&mut self) -> &mut Self {
        self.put(0, (8 - self.used % 8) % 8)
    }

    /// Appends whole bytes after the last whole byte.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.align();
        self.bytes.extend_from_slice(bytes);
        self.used += 8 * bytes.len() as u32;
        self
    }

    /// An unsigned Exp-Golomb code (ISO/IEC 14496-10 §9.1).
    fn golomb(&mut self, value: u32) -> &mut Self {
        let length = 32 - (value + 1).leading_zeros();
        self.put(0, length - 1).put(value + 1, length)
    }

    /// A start code of MPEG-2 (ISO/IEC 13818-2 §6.2.1).
    fn start_code(&mut self, code: u8) -> &mut Self {
        self.bytes(&[0, 0, 1, code])
    }
}

/// A grey level of a moving test picture, 16..=235, in units of 8 × 8 blocks.
fn level(block_column: u32, block_row: u32, frame: u32) -> u32 {
    let square = (block_column / 4 + block_row / 4) % 2 * 40;
    16 + square + (block_column * 2 + block_row + frame * 4) % 160
}

/// An MPEG-2 video elementary stream (ISO/IEC 13818-2), main profile at main or high level, 25
/// pictures a second, chroma 4:2:0. Columns and rows are multiples of 16.
pub(super) fn mpeg2(columns: u16, rows: u16, frames: u16, main_level: bool) -> Vec<u8> {
    let (columns, rows) = (u32::from(columns), u32::from(rows));
    let mut out = Bits::default();
    for frame in 0..u32::from(frames) {
        if frame == 0 {
            sequence_header(&mut out, columns, rows, main_level);
        }
        // Picture header: temporal reference, intra picture, variable bit rate.
        out.start_code(0x00)
            .put(frame, 10)
            .put(1, 3)
            .put(0xFFFF, 16)
            .put(0, 1);
        // Picture coding extension: no motion codes, 8-bit DC, frame picture, frame prediction and DCT,
        // 4:2:0 progressive.
        out.start_code(0xB5)
            .put(8, 4)
            .put(0xFFFF, 16)
            .put(0, 2)
            .put(3, 2)
            .put(0b0100_0001, 8)
            .put(0b10, 2);
        for row in 0..rows / 16 {
            slice(&mut out, row, columns / 16, frame);
        }
    }
    out.start_code(0xB7);
    out.bytes
}

fn sequence_header(out: &mut Bits, columns: u32, rows: u32, main_level: bool) {
    let (bit_rate, profile_and_level) = if main_level {
        (15_000_000, 0x48)
    } else {
        (40_000_000, 0x44)
    };
    // Size, square samples, 25 Hz, bit rate in units of 400 bit/s, VBV size, default matrices.
    out.start_code(0xB3)
        .put(columns, 12)
        .put(rows, 12)
        .put(1, 4)
        .put(3, 4)
        .put(bit_rate / 400, 18)
        .put(1, 1)
        .put(112, 10)
        .put(0, 3);
    // Sequence extension: progressive, 4:2:0, no extension of the sizes above.
    out.start_code(0xB5)
        .put(1, 4)
        .put(profile_and_level, 8)
        .put(1, 1)
        .put(1, 2)
        .put(0, 4)
        .put(0, 12)
        .put(1, 1)
        .put(0, 8)
        .put(0, 1)
        .put(0, 7);
}

/// One row of intra macroblocks, four luminance and two chrominance blocks each.
fn slice(out: &mut Bits, row: u32, macroblocks: u32, frame: u32) {
    // Start codes of slices count rows from 1; quantiser scale 1.
    out.start_code(row as u8 + 1).put(1, 5).put(0, 1);
    let mut luminance = 128;
    let mut chrominance = [128, 128];
    for column in 0..macroblocks {
        // Address increment 1, intra.
        out.put(1, 1).put(1, 1);
        for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let value = level(2 * column + x, 2 * row + y, frame) as i32;
            dc_block(out, value - luminance, &LUMINANCE_SIZES);
            luminance = value;
        }
        for (plane, previous) in chrominance.iter_mut().enumerate() {
            let value = 112 + (column + 16 * plane as u32) as i32 % 32;
            dc_block(out, value - *previous, &CHROMINANCE_SIZES);
            *previous = value;
        }
    }
}

/// Codes of `dct_dc_size_luminance`, value and length (ISO/IEC 13818-2 table B.12).
const LUMINANCE_SIZES: [(u32, u32); 9] = [
    (0b100, 3),
    (0b00, 2),
    (0b01, 2),
    (0b101, 3),
    (0b110, 3),
    (0b1110, 4),
    (0b11110, 5),
    (0b11_1110, 6),
    (0b111_1110, 7),
];

/// Codes of `dct_dc_size_chrominance` (ISO/IEC 13818-2 table B.13).
const CHROMINANCE_SIZES: [(u32, u32); 9] = [
    (0b00, 2),
    (0b01, 2),
    (0b10, 2),
    (0b110, 3),
    (0b1110, 4),
    (0b11110, 5),
    (0b11_1110, 6),
    (0b111_1110, 7),
    (0b1111_1110, 8),
];

/// The difference of a DC coefficient and the end of the block.
fn dc_block(out: &mut Bits, difference: i32, sizes: &[(u32, u32)]) {
    let size = 32 - difference.unsigned_abs().leading_zeros();
    let (code, length) = sizes.get(size as usize).copied().unwrap_or((0, 0));
    out.put(code, length);
    // Negative differences are written as their value less one, modulo 2^size.
    let value = if difference < 0 {
        difference - 1
    } else {
        difference
    };
    out.put(value as u32, size).put(0b10, 2);
}

/// An H.264 stream (ISO/IEC 14496-10), high profile at level 4.1, 25 pictures a second, in an MPEG-2
/// transport stream, as PS3.5 §8.2.7 asks. Columns and rows are multiples of 16.
pub(super) fn h264(columns: u16, rows: u16, frames: u16) -> Vec<u8> {
    let (width, height) = (u32::from(columns) / 16, u32::from(rows) / 16);
    let mut units = vec![
        [
            nal(9, &[0xF0]),
            nal(0x67, &sequence_parameters(width, height)),
            nal(0x68, &picture_parameters()),
            nal(0x65, &intra_picture(width, height)),
        ]
        .concat(),
    ];
    for frame in 1..u32::from(frames) {
        units.push(
            [
                nal(9, &[0xF0]),
                nal(0x41, &repeated_picture(frame, width * height)),
            ]
            .concat(),
        );
    }
    transport_stream(&units)
}

/// A NAL unit with start code and emulation prevention (§7.4.1, annex B).
fn nal(header: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1, header];
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    out
}

/// §7.3.2.1: 4:2:0, 8 bits, one reference picture, output in decoding order, 25 Hz.
fn sequence_parameters(width: u32, height: u32) -> Vec<u8> {
    let mut out = Bits::default();
    out.put(100, 8).put(0, 8).put(41, 8).golomb(0);
    out.golomb(1).golomb(0).golomb(0).put(0, 2);
    out.golomb(0).golomb(2).golomb(1).put(0, 1);
    out.golomb(width - 1).golomb(height - 1).put(0b110, 3);
    // Timing: two ticks of 1/50 s a picture.
    out.put(1, 1)
        .put(0, 4)
        .put(1, 1)
        .put(1, 32)
        .put(50, 32)
        .put(1, 1)
        .put(0, 4);
    trailing(out)
}

/// §7.3.2.2: variable length codes, the deblocking filter controlled by each slice.
fn picture_parameters() -> Vec<u8> {
    let mut out = Bits::default();
    out.golomb(0).golomb(0).put(0, 2).golomb(0);
    out.golomb(0)
        .golomb(0)
        .put(0, 3)
        .golomb(0)
        .golomb(0)
        .golomb(0)
        .put(0b100, 3);
    trailing(out)
}

/// An IDR slice of I_PCM macroblocks (§7.3.5): samples as they are.
fn intra_picture(width: u32, height: u32) -> Vec<u8> {
    let mut out = Bits::default();
    out.golomb(0)
        .golomb(7)
        .golomb(0)
        .put(0, 4)
        .golomb(0)
        .put(0, 2)
        .golomb(0)
        .golomb(1);
    for row in 0..height {
        for column in 0..width {
            let mut samples = [128_u8; 384];
            for (index, sample) in (0_u32..256).zip(&mut samples) {
                let (x, y) = (index % 16, index / 16);
                *sample = level(2 * column + x / 8, 2 * row + y / 8, 0) as u8;
            }
            out.golomb(25).bytes(&samples);
        }
    }
    trailing(out)
}

/// A P slice that skips every macroblock: the previous picture again.
fn repeated_picture(frame: u32, macroblocks: u32) -> Vec<u8> {
    let mut out = Bits::default();
    out.golomb(0).golomb(5).golomb(0).put(frame % 16, 4);
    out.put(0, 3).golomb(0).golomb(1).golomb(macroblocks);
    trailing(out)
}

/// Stop bit and alignment (§7.3.2.11).
fn trailing(mut out: Bits) -> Vec<u8> {
    out.put(1, 1).align();
    out.bytes
}

const PACKET: usize = 188;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x0100;

/// Access units of 25 a second in a transport stream of one programme (ISO/IEC 13818-1).
fn transport_stream(units: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let [pmt_high, pmt_low] = (PMT_PID | 0xE000).to_be_bytes();
    section(
        &mut out,
        0,
        &[0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, pmt_high, pmt_low],
    );
    let [video_high, video_low] = (VIDEO_PID | 0xE000).to_be_bytes();
    let stream_type = 0x1B;
    section(
        &mut out,
        PMT_PID,
        &[
            0x02,
            0xB0,
            18,
            0,
            1,
            0xC1,
            0,
            0,
            video_high,
            video_low,
            0xF0,
            0,
            stream_type,
            video_high,
            video_low,
            0xF0,
            0,
        ],
    );
    let mut counter = 0;
    for (number, unit) in (0_u64..).zip(units) {
        // 90 kHz clock: 3 600 ticks a picture, decoded 0.5 s after its arrival.
        let arrival = number * 3600;
        let mut packet = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5];
        packet.extend(timestamp(arrival + 45_000));
        packet.extend_from_slice(unit);
        packets(&mut out, &packet, arrival, &mut counter);
    }
    out
}

/// A table with its CRC in one packet.
fn section(out: &mut Vec<u8>, pid: u16, table: &[u8]) {
    let [high, low] = pid.to_be_bytes();
    let start = out.len();
    out.extend_from_slice(&[0x47, high | 0x40, low, 0x10, 0]);
    out.extend_from_slice(table);
    out.extend_from_slice(&crc(table).to_be_bytes());
    out.resize(start + PACKET, 0xFF);
}

/// CRC-32 of ISO/IEC 13818-1 annex A: no reflection, no final inversion.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

/// A presentation time stamp (§2.4.3.7).
fn timestamp(ticks: u64) -> [u8; 5] {
    [
        0x21 | (ticks >> 29 & 0x0E) as u8,
        (ticks >> 22) as u8,
        1 | (ticks >> 14 & 0xFE) as u8,
        (ticks >> 7) as u8,
        1 | (ticks << 1 & 0xFE) as u8,
    ]
}

/// Cuts a PES packet into transport packets; the first one carries the clock, the last one is stuffed.
fn packets(out: &mut Vec<u8>, packet: &[u8], clock: u64, counter: &mut u8) {
    let [high, low] = VIDEO_PID.to_be_bytes();
    let mut rest = packet;
    let mut first = true;
    while !rest.is_empty() {
        let mut adaptation = Vec::new();
        if first {
            // Random access flag off, PCR on; base in 33 bits, 6 reserved bits, extension 0.
            adaptation.push(0x10);
            adaptation.extend_from_slice(&(clock << 15 | 0x7E00).to_be_bytes()[2..]);
        }
        let room = PACKET - 4 - if first { 1 + adaptation.len() } else { 0 };
        let length = rest.len().min(room);
        let stuffing = room - length;
        let has_adaptation = first || stuffing > 0;
        let control = if has_adaptation { 0x30 } else { 0x10 };
        let start = if first { 0x40 } else { 0 };
        out.extend_from_slice(&[0x47, high | start, low, control | *counter]);
        if has_adaptation {
            let field = if first {
                adaptation.len() + stuffing
            } else {
                stuffing - 1
            };
            out.push(field as u8);
            if adaptation.is_empty() && field > 0 {
                adaptation.push(0);
            }
            adaptation.resize(field, 0xFF);
            out.extend_from_slice(&adaptation);
        }
        let (payload, remaining) = rest.split_at(length);
        out.extend_from_slice(payload);
        rest = remaining;
        first = false;
        *counter = (*counter + 1) % 16;
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, crc, h264, mpeg2};

    #[test]
    fn numbers_become_exp_golomb_codes() {
        let mut bits = Bits::default();
        bits.golomb(0).golomb(1).golomb(2).golomb(7).align();
        assert_eq!(bits.bytes, [0b1010_0110, 0b0010_0000]);
    }

    #[test]
    fn the_crc_of_a_transport_stream_is_the_one_of_mpeg_2() {
        assert_eq!(crc(b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn a_transport_stream_is_made_of_whole_packets() {
        let stream = h264(64, 64, 3);
        assert_eq!(stream.len() % 188, 0);
        assert!(
            stream
                .chunks(188)
                .all(|packet| packet.first() == Some(&0x47))
        );
    }

    #[test]
    fn an_mpeg_2_stream_starts_with_its_sequence_and_ends_it() {
        let stream = mpeg2(64, 48, 2, true);
        assert!(stream.starts_with(&[0, 0, 1, 0xB3]));
        assert!(stream.ends_with(&[0, 0, 1, 0xB7]));
    }
}
