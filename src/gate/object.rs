//! The object file with the kernel's half of the gate, taken apart.

use std::ffi::CString;

use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};

/// What `scripts/gate.sh` has made of `gate.bpf.c`.
const OBJECT: &[u8] = include_bytes!("gate.bpf.o");

/// One instruction, in bytes; one that loads 64 bits is two of them.
const INSTRUCTION: usize = 8;
/// `BPF_LD | BPF_IMM | BPF_DW`, and in its source register: "the number is a map's descriptor".
const LOAD_64: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;

/// What a map is made like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapSpec {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

/// A program whose instructions wait for the maps they name.
#[derive(Debug)]
pub(super) struct Code {
    instructions: Vec<u8>,
    /// Where a map's descriptor belongs, and which map's.
    maps: Vec<(usize, String)>,
}

impl Code {
    /// The instructions, with the descriptor that `fd` has for each map; `None` if it has none.
    pub(super) fn with(&self, fd: impl Fn(&str) -> Option<i32>) -> Option<Vec<u8>> {
        let mut code = self.instructions.clone();
        for (at, map) in &self.maps {
            let place: &mut [u8; INSTRUCTION] = code.get_mut(*at..)?.first_chunk_mut()?;
            let [operation, registers, _, _, number @ ..] = place;
            if *operation != LOAD_64 {
                return None;
            }
            // The four bits of the source register: the upper half on a little-endian machine.
            *registers = (*registers & 0x0f) | (PSEUDO_MAP_FD << 4);
            *number = fd(map)?.to_le_bytes();
        }
        Some(code)
    }
}

/// The object file.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) maps: Vec<MapSpec>,
    pub(super) license: CString,
    programs: Vec<(String, Code)>,
}

impl Object {
    /// Of the file that is built in; words about what is wrong with it otherwise.
    pub(super) fn built_in() -> Result<Self, String> {
        Self::parse(OBJECT)
    }

    /// The code of the program in the section `classifier/name`.
    pub(super) fn code(&self, name: &str) -> Option<&Code> {
        self.programs.iter().find(|(of, _)| of == name).map(|(_, code)| code)
    }

    fn parse(file: &[u8]) -> Result<Self, String> {
        if cfg!(target_endian = "big") {
            return Err("the programs are for little-endian machines only".into());
        }
        let elf = ElfFile64::<Endianness>::parse(file).map_err(|e| e.to_string())?;
        let data = |name: &str| {
            let section = elf.section_by_name(name).ok_or_else(|| format!("no section {name}"))?;
            section.data().map_err(|e| e.to_string())
        };
        let table = data("maps")?;
        let section = elf.section_by_name("maps").map(|section| section.index());
        let mut maps = Vec::new();
        for symbol in elf.symbols().filter(|symbol| symbol.section_index() == section) {
            let name = symbol.name().map_err(|e| e.to_string())?;
            if !name.is_empty() {
                maps.push(map(name, table, symbol.address()).ok_or("a map that is cut short")?);
            }
        }
        let license = CString::from_vec_with_nul(data("license")?.to_vec());
        let mut programs = Vec::new();
        for section in elf.sections() {
            let name = section.name().map_err(|e| e.to_string())?;
            let Some(name) = name.strip_prefix("classifier/") else { continue };
            let mut named = Vec::new();
            for (at, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Err("a relocation without a symbol".into());
                };
                let symbol = elf.symbol_by_index(symbol).map_err(|e| e.to_string())?;
                let map = symbol.name().map_err(|e| e.to_string())?.to_owned();
                named.push((usize::try_from(at).map_err(|e| e.to_string())?, map));
            }
            let instructions = section.data().map_err(|e| e.to_string())?.to_vec();
            programs.push((name.to_owned(), Code { instructions, maps: named }));
        }
        Ok(Self { maps, license: license.map_err(|e| e.to_string())?, programs })
    }
}

/// The map that is described at `address` of the section: five numbers.
fn map(name: &str, table: &[u8], address: u64) -> Option<MapSpec> {
    let from = table.get(usize::try_from(address).ok()?..)?;
    let number = |nth: usize| {
        let bytes = from.get(nth * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    Some(MapSpec {
        name: name.to_owned(),
        kind: number(0)?,
        key: number(1)?,
        value: number(2)?,
        entries: number(3)?,
        flags: number(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_what_the_loader_looks_for() {
        let object = Object::built_in().unwrap();
        let mut names: Vec<_> = object.maps.iter().map(|map| map.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["addresses", "drops", "identity", "slots"]);
        for name in ["in", "out"] {
            let code = object.code(name).unwrap();
            let mut used: Vec<_> = code.maps.iter().map(|(_, map)| map.as_str()).collect();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, ["addresses", "drops", "slots"], "{name}");
        }
        assert!(object.code("clock").unwrap().maps.is_empty());
        assert_eq!(object.license.as_c_str(), c"MIT");
    }

    #[test]
    fn a_map_that_nobody_has_is_no_program() {
        let object = Object::built_in().unwrap();
        let code = object.code("in").unwrap();
        assert!(code.with(|map| (map != "drops").then_some(7)).is_none());
        let whole = code.with(|_| Some(0x0102)).unwrap();
        let (at, _) = code.maps.first().unwrap();
        let place = whole.get(*at..*at + 8).unwrap();
        assert!(matches!(place, [0x18, r, 0, 0, 2, 1, 0, 0] if r >> 4 == 1), "{place:?}");
    }

    #[test]
    fn a_file_that_is_cut_is_refused_in_words() {
        for length in 0..OBJECT.len() {
            let _ = Object::parse(OBJECT.get(..length).unwrap());
        }
        assert!(Object::parse(b"no object").is_err());
    }
}
