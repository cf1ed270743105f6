//! Tile registers and the instructions on them.

use crate::dot;

const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    row_bytes: usize,
    data: [[u8; ROW_BYTES]; ROWS],
}

impl Tile {
    const EMPTY: Tile = Tile {
        rows: 0,
        row_bytes: 0,
        data: [[0; ROW_BYTES]; ROWS],
    };
}

/// The tile registers of a thread. A method returns `None` where the CPU raises a fault.
pub struct Tiles([Tile; 8]);

impl Tiles {
    pub const EMPTY: Tiles = Tiles([Tile::EMPTY; 8]);

    /// `ldtilecfg`: palette 1, eight tiles of at most 16 rows of 64 bytes.
    pub fn configure(&mut self, config: &[u8; 64]) -> Option<()> {
        let (row_bytes, rows) = (&config[16..48], &config[48..]);
        let mut reserved = config[2..16]
            .iter()
            .chain(&row_bytes[16..])
            .chain(&rows[8..]);
        if config[..2] != [1, 0] || reserved.any(|byte| *byte != 0) {
            return None;
        }
        *self = Tiles::EMPTY;
        for (i, tile) in self.0.iter_mut().enumerate() {
            tile.rows = usize::from(rows[i]);
            tile.row_bytes =
                usize::from(u16::from_le_bytes([row_bytes[2 * i], row_bytes[2 * i + 1]]));
            let empty = (tile.rows == 0, tile.row_bytes == 0);
            if tile.rows > ROWS || tile.row_bytes > ROW_BYTES || empty.0 != empty.1 {
                return None;
            }
        }
        Some(())
    }

    /// A tile that is configured.
    fn tile(&mut self, number: usize) -> Option<&mut Tile> {
        self.0.get_mut(number).filter(|tile| tile.rows > 0)
    }

    pub fn zero(&mut self, number: usize) -> Option<()> {
        self.tile(number)?.data = Tile::EMPTY.data;
        Some(())
    }

    /// `tileloadd`; `read(row, to)` fills the bytes of one row.
    pub fn load(&mut self, number: usize, mut read: impl FnMut(usize, &mut [u8])) -> Option<()> {
        self.zero(number)?;
        let tile = self.tile(number)?;
        for (row, to) in tile.data[..tile.rows].iter_mut().enumerate() {
            read(row, &mut to[..tile.row_bytes]);
        }
        Some(())
    }

    /// `tilestored`; `write(row, from)` takes the bytes of one row.
    pub fn store(&mut self, number: usize, mut write: impl FnMut(usize, &[u8])) -> Option<()> {
        let tile = self.tile(number)?;
        for (row, from) in tile.data[..tile.rows].iter().enumerate() {
            write(row, &from[..tile.row_bytes]);
        }
        Some(())
    }

    /// `C += A · B`, with A's bytes unsigned, B's signed and in groups of four inputs.
    pub fn tdpbusd(&mut self, c: usize, a: usize, b: usize) -> Option<()> {
        let distinct = c != a && c != b && a != b;
        let (a, b) = (*self.tile(a)?, *self.tile(b)?);
        let c = self.tile(c)?;
        let whole = a.row_bytes % 4 == 0 && b.row_bytes % 4 == 0 && c.row_bytes % 4 == 0;
        let fit = c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes / 4 == b.rows;
        if !(distinct && whole && fit) {
            return None;
        }
        for (c, a) in c.data.iter_mut().zip(&a.data).take(a.rows) {
            for (a, b) in a.as_chunks().0.iter().zip(&b.data).take(b.rows) {
                for (c, b) in c.as_chunks_mut().0.iter_mut().zip(b.as_chunks().0) {
                    *c = dot(*c, *a, *b);
                }
            }
        }
        Some(())
    }
}
