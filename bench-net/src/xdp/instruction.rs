//! A very small assembler: the BPF instructions that the filter is made of.
//!
//! Encoding (`Documentation/bpf/standardization/instruction-set.rst`), eight
//! bytes each, in the machine's own byte order:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | opcode |
//! | 1 | 1 | destination register (low half), source register (high half) |
//! | 2 | 2 | offset: of memory, or of a jump in instructions |
//! | 4 | 4 | immediate value |

/// A register. `R0` is the result; `R1` to `R5` are arguments and do not
/// survive a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "registers have no other name")]
pub enum Register {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
}

/// How many bytes a load reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `BPF_B`
    One,
    /// `BPF_H`
    Two,
    /// `BPF_W`
    Four,
}

/// An encoded instruction (or half of one that takes two slots).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `BPF_PSEUDO_MAP_FD`: the immediate is a map's descriptor, which the kernel
/// replaces by its address.
const PSEUDO_MAP_FD: u8 = 1;

impl Instruction {
    const fn new(
        opcode: u8,
        destination: u8,
        source: u8,
        offset: i16,
        immediate: i32,
    ) -> Self {
        let registers = source << 4 | destination;
        Self { opcode, registers, offset, immediate }
    }

    /// The eight bytes that the kernel and rbpf read.
    pub fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[0] = self.opcode;
        bytes[1] = self.registers;
        bytes[2..4].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.immediate.to_ne_bytes());
        bytes
    }
}

/// Where a jump goes: a place in the program that is bound once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is, once bound.
    labels: Vec<Option<usize>>,
    /// Instructions whose offset is the way to a label.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A place that jumps may name before it is known.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn bind(&mut self, label: Label) {
        assert!(self.labels[label.0].is_none(), "a label is bound once");
        self.labels[label.0] = Some(self.code.len());
    }

    /// `to = *(width *)(base + offset)`
    pub fn load(
        &mut self,
        to: Register,
        width: Width,
        base: Register,
        offset: i16,
    ) {
        // BPF_LDX | BPF_MEM | width
        let opcode = match width {
            Width::One => 0x71,
            Width::Two => 0x69,
            Width::Four => 0x61,
        };
        self.push(opcode, to as u8, base as u8, offset, 0);
    }

    /// `to = from`
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to as u8, from as u8, 0, 0);
    }

    /// `to = value`
    pub fn set(&mut self, to: Register, value: i32) {
        self.push(0xb7, to as u8, 0, 0, value);
    }

    /// `to += value`
    pub fn add(&mut self, to: Register, value: i32) {
        self.push(0x07, to as u8, 0, 0, value);
    }

    /// `to &= value`
    pub fn and(&mut self, to: Register, value: i32) {
        self.push(0x57, to as u8, 0, 0, value);
    }

    /// `to = the map behind this descriptor`: two slots.
    pub fn set_map(&mut self, to: Register, descriptor: i32) {
        self.push(0x18, to as u8, PSEUDO_MAP_FD, 0, descriptor);
        self.push(0, 0, 0, 0, 0);
    }

    /// `if left > right goto label`
    pub fn jump_if_greater(
        &mut self,
        left: Register,
        right: Register,
        label: Label,
    ) {
        self.jump(0x2d, left as u8, right as u8, 0, label);
    }

    /// `if left == value goto label`
    pub fn jump_if_equal(&mut self, left: Register, value: i32, label: Label) {
        self.jump(0x15, left as u8, 0, value, label);
    }

    /// `if left != value goto label`
    pub fn jump_if_not_equal(
        &mut self,
        left: Register,
        value: i32,
        label: Label,
    ) {
        self.jump(0x55, left as u8, 0, value, label);
    }

    /// `goto label`
    pub fn jump_always(&mut self, label: Label) {
        self.jump(0x05, 0, 0, 0, label);
    }

    /// `R0 = helper(R1, R2, R3, R4, R5)`
    pub fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    /// `return R0`
    pub fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    /// The program, with every jump's distance filled in.
    ///
    /// # Panics
    /// A label was never bound: a mistake in the program.
    pub fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label is bound");
            // Counted from the instruction behind the jump; forward only, so
            // that every program ends.
            let distance = target.checked_sub(at + 1).expect("a jump forward");
            self.code[at].offset =
                i16::try_from(distance).expect("a few dozen instructions");
        }
        self.code
    }

    fn jump(
        &mut self,
        opcode: u8,
        destination: u8,
        source: u8,
        immediate: i32,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        self.push(opcode, destination, source, 0, immediate);
    }

    fn push(
        &mut self,
        opcode: u8,
        destination: u8,
        source: u8,
        offset: i16,
        immediate: i32,
    ) {
        self.code.push(Instruction::new(
            opcode,
            destination,
            source,
            offset,
            immediate,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::testing;

    fn bytes(code: &[Instruction]) -> Vec<u8> {
        code.iter().flat_map(|i| i.to_bytes()).collect()
    }

    /// Six slots that are known to pass the verifier and to redirect.
    #[test]
    #[cfg(target_endian = "little")]
    fn the_shortest_redirecting_program_has_the_known_bytes() {
        use Register::{R1, R2, R3};
        let mut code = Assembler::default();
        code.load(R2, Width::Four, R1, 16);
        code.set_map(R1, 7);
        code.set(R3, 2);
        code.call(51);
        code.exit();
        assert_eq!(
            bytes(&code.finish()),
            [
                0x61, 0x12, 0x10, 0, 0, 0, 0, 0, //
                0x18, 0x11, 0, 0, 7, 0, 0, 0, //
                0, 0, 0, 0, 0, 0, 0, 0, //
                0xb7, 0x03, 0, 0, 2, 0, 0, 0, //
                0x85, 0, 0, 0, 51, 0, 0, 0, //
                0x95, 0, 0, 0, 0, 0, 0, 0,
            ]
        );
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut code = Assembler::default();
        let end = code.label();
        code.jump_if_equal(Register::R1, 5, end);
        code.jump_if_not_equal(Register::R1, 6, end);
        code.jump_if_greater(Register::R1, Register::R2, end);
        code.jump_always(end);
        code.bind(end);
        code.exit();
        let offsets: Vec<i16> =
            code.finish().iter().map(|i| i.offset).collect();
        assert_eq!(offsets, [3, 2, 1, 0, 0]);
    }

    #[test]
    fn a_label_that_is_nowhere_is_a_mistake() {
        let said = testing::panic_of(|| {
            let mut code = Assembler::default();
            let nowhere = code.label();
            code.jump_always(nowhere);
            code.finish();
        });
        assert!(said.contains("every label is bound"), "{said}");
    }

    /// rbpf reads the same bytes as what the names say.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_disassembler_agrees() {
        use Register::{R0, R1, R2, R4};
        let mut code = Assembler::default();
        let end = code.label();
        code.load(R2, Width::Four, R1, 4);
        code.load(R4, Width::Two, R2, 12);
        code.load(R4, Width::One, R2, 23);
        code.copy(R4, R2);
        code.add(R4, 42);
        code.and(R4, 0xff);
        code.jump_if_greater(R4, R2, end);
        code.bind(end);
        code.set(R0, 2);
        code.exit();
        let text: Vec<String> =
            rbpf::disassembler::to_insn_vec(&bytes(&code.finish()))
                .into_iter()
                .map(|instruction| instruction.desc)
                .collect();
        assert_eq!(
            text,
            [
                "ldxw r2, [r1+0x4]",
                "ldxh r4, [r2+0xc]",
                "ldxb r4, [r2+0x17]",
                "mov64 r4, r2",
                "add64 r4, 0x2a",
                "and64 r4, 0xff",
                "jgt r4, r2, +0x0",
                "mov64 r0, 0x2",
                "exit",
            ]
        );
    }
}
