//! Files as QR codes (ISO/IEC 18004), for machines that must not be connected even by a stick: one shows, the other has a camera.
//!
//! What a scanner gives is the file's own text, so nothing here is trusted: it is checked like a file that was carried.

use std::io::Write as _;
use std::path::Path;

use png::{BitDepth, ColorType, Encoder};
use qrcode::{Color, EcLevel, QrCode, render::unicode::Dense1x2};
use thiserror::Error;

use crate::secrets;

/// Most bytes of a code: version 40 at the lowest level of correction. A screen shows it without dirt.
pub const MAX_BYTES: usize = 2_953;
/// Pixels of a module's side, in an image.
const SCALE: usize = 6;
/// Modules of white around it that scanners need.
const QUIET: usize = 4;

/// Why there is no code.
#[derive(Debug, Error)]
pub enum QrError {
    /// Too much for one.
    #[error("it has {0} bytes, and a QR code holds {MAX_BYTES} at most: carry it as a file")]
    TooLong(usize),
    /// Cannot happen with the sizes of codes.
    #[error("the image cannot be made: {0}")]
    Image(#[from] png::EncodingError),
    /// No terminal.
    #[error("the QR code cannot be shown: {0}")]
    Show(#[from] std::io::Error),
    /// A file that exists, or a folder that cannot be written.
    #[error("the QR code cannot be written: {0}")]
    Write(#[from] secrets::SecretError),
}

/// A code of some content.
pub struct Qr(QrCode);

impl std::fmt::Debug for Qr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qr").field("modules", &self.0.width()).finish_non_exhaustive()
    }
}

impl Qr {
    /// The code of `content`.
    ///
    /// # Errors
    /// [`QrError::TooLong`].
    pub fn new(content: &[u8]) -> Result<Self, QrError> {
        if content.len() > MAX_BYTES {
            return Err(QrError::TooLong(content.len()));
        }
        let code = QrCode::with_error_correction_level(content, EcLevel::L);
        code.map(Self).map_err(|_| QrError::TooLong(content.len()))
    }

    /// Shows it: on the terminal (standard error) for `-`, else as a new PNG file.
    ///
    /// # Errors
    /// [`QrError`].
    pub fn show(&self, to: &Path) -> Result<(), QrError> {
        if to == Path::new("-") {
            return Ok(writeln!(std::io::stderr().lock(), "{}", self.text())?);
        }
        Ok(secrets::write_new(to, &self.png()?)?)
    }

    /// For a terminal with light text on a dark ground: two modules to a character, with their white margin.
    #[must_use]
    pub fn text(&self) -> String {
        let colours = (Dense1x2::Light, Dense1x2::Dark);
        self.0.render::<Dense1x2>().dark_color(colours.0).light_color(colours.1).quiet_zone(true).build()
    }

    /// A PNG image, black on white.
    ///
    /// # Errors
    /// [`QrError::Image`].
    pub fn png(&self) -> Result<Vec<u8>, QrError> {
        let modules = self.0.width();
        let side = (modules + 2 * QUIET) * SCALE;
        let inside = |at: usize| (at / SCALE).checked_sub(QUIET).filter(|module| *module < modules);
        let mut pixels = vec![u8::MAX; side * side];
        for (at, pixel) in pixels.iter_mut().enumerate() {
            if let (Some(x), Some(y)) = (inside(at % side), inside(at / side))
                && self.0[(x, y)] == Color::Dark
            {
                *pixel = 0;
            }
        }
        let width = u32::try_from(side).unwrap_or(u32::MAX);
        let mut image = Vec::new();
        let mut encoder = Encoder::new(&mut image, width, width);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// What a scanner, which is another program than the one that made it, reads.
    fn scanned(side: usize, dark: impl Fn(usize, usize) -> bool) -> Vec<u8> {
        let mut seen = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if dark(x, y) { 0 } else { 255 });
        let grids = seen.detect_grids();
        assert_eq!(grids.len(), 1);
        let mut content = Vec::new();
        grids[0].decode_to(&mut content).unwrap();
        content
    }

    fn contents() -> [Vec<u8>; 3] {
        [
            br#"{"version":"1","keyId":"7"}"#.to_vec(),
            vec![b'a'; 1_000],
            (0..MAX_BYTES).map(|it| b' ' + it.to_le_bytes()[0] % 90).collect(),
        ]
    }

    #[test]
    fn a_scanner_reads_from_the_image_what_was_put_in() {
        for content in contents() {
            let image = Qr::new(&content).unwrap().png().unwrap();
            let mut reader = png::Decoder::new(Cursor::new(image)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let side = reader.next_frame(&mut pixels).unwrap().width as usize;
            assert_eq!(scanned(side, |x, y| pixels[y * side + x] == 0), content);
        }
    }

    #[test]
    fn a_scanner_reads_from_a_dark_terminal_what_was_put_in() {
        for content in contents() {
            let text = Qr::new(&content).unwrap().text();
            let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
            let side = lines[0].len();
            // A full block is lit above and below; the code is what is not lit.
            let lit = |x: usize, y: usize| match lines.get(y / 2).map_or(' ', |line| line[x]) {
                '█' => true,
                '▀' => y.is_multiple_of(2),
                '▄' => !y.is_multiple_of(2),
                _ => false,
            };
            assert_eq!(scanned(side * SCALE, |x, y| !lit(x / SCALE, y / SCALE)), content);
        }
    }

    #[test]
    fn what_does_not_fit_is_to_be_carried_as_a_file() {
        let error = Qr::new(&vec![b'a'; MAX_BYTES + 1]).unwrap_err();
        assert_eq!(error.to_string(), "it has 2954 bytes, and a QR code holds 2953 at most: carry it as a file");
        assert!(Qr::new(&vec![b'a'; MAX_BYTES]).is_ok());
    }
}
