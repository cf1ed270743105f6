//! `cargo run --example isas`: the names of the instruction sets that layers can use on this CPU,
//! slowest first, one a line. Each is a value for `NOISYQUANT_ISA`.

fn main() {
    for isa in noisyquant::Isa::available() {
        println!("{isa}");
    }
}
