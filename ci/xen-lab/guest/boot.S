# The HVM guest of the lab: one sector, which the BIOS boots from its first disk. As init.c it counts, writes each count to
# both disks, remembers what it wrote, and compares; it says the same on the first serial port, with numbers in
# hexadecimal. Count N is in the sector 2 + N modulo 8, counted from 1. Before it is written, disks and memory must
# still agree on what was there: had a disk not come back with the memory, it would have a later count there.

        .set    RING, 0x8000            # 8 sectors as they are written
        .set    SEEN, 0x9000            # 8 sectors as they are read
        .set    COUNT, 0xa000
        .set    TOKEN, 0xa004
        .set    CLOCK, 0x46c            # the BIOS counts here, 18.2 times a second
        .set    SERIAL, 0x3f8
        .set    READ, 2
        .set    WRITE, 3

        .code16
        .globl  _start
_start: cli
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        cld
        mov     $RING, %di
        mov     $0x2100 / 2, %cx
        rep stosw
        sti

        mov     $found, %si
        call    say
        mov     $0x80, %dl
        call    last_on
        mov     $and_b, %si
        call    say
        mov     $0x81, %dl
        call    last_on
        call    end_line
        movl    CLOCK, %eax
        movl    %eax, TOKEN
        mov     $(WRITE << 8 | 8), %ax
        mov     $RING, %bx
        mov     $2, %cx
        call    both

again:  incl    COUNT
        mov     $0x80, %dl
        call    compare
        mov     $0x81, %dl
        call    compare
        call    at_count
        movl    $0x62616c78, (%bx)      # "xlab"
        movl    COUNT, %eax
        movl    %eax, 4(%bx)
        movl    TOKEN, %eax
        movl    %eax, 8(%bx)
        mov     $(WRITE << 8 | 1), %ax
        call    both
        mov     $tick, %si
        call    say
        movl    COUNT, %eax
        call    say_number
        mov     $token, %si
        call    say
        movl    TOKEN, %eax
        call    say_digits
        call    end_line
        movl    CLOCK, %ebx
        addl    $4, %ebx
1:      hlt
        cmpl    %ebx, CLOCK
        jb      1b
        jmp     again

# Where the count belongs: in memory bx, on disk cx.
at_count:
        mov     COUNT, %cx
        and     $7, %cx
        mov     %cx, %bx
        shl     $9, %bx
        add     $RING, %bx
        add     $2, %cx
        ret

# Disk dl: ah is what to do, al the number of sectors, cx the first, bx the memory.
both:   mov     $0x80, %dl
        call    disk
        mov     $0x81, %dl
disk:   mov     $0, %dh
        push    %ax
        int     $0x13
        pop     %ax
        jnc     1f
        mov     $failed, %si
        call    say
1:      ret

last_on:
        mov     $(READ << 8 | 8), %ax
        mov     $SEEN, %bx
        mov     $2, %cx
        call    disk
        mov     $8, %cx
        xor     %eax, %eax
1:      cmpl    %eax, 4(%bx)
        jbe     2f
        movl    4(%bx), %eax
2:      add     $512, %bx
        loop    1b
        jmp     say_number

compare:
        call    at_count
        push    %bx
        mov     $SEEN, %bx
        mov     $(READ << 8 | 1), %ax
        call    disk
        pop     %si
        mov     $SEEN, %di
        mov     $256, %cx
        repe cmpsw
        je      1f
        mov     $disagree, %si
        call    say
        movl    SEEN + 4, %eax
        call    say_number
        call    end_line
1:      ret

say_number:                             # eax
        pushl   %eax
        mov     $prefix, %si
        call    say
        popl    %eax
say_digits:
        mov     $8, %cx
1:      rol     $4, %eax
        push    %ax
        and     $15, %al
        cmp     $10, %al
        jb      2f
        add     $'a' - '0' - 10, %al
2:      add     $'0', %al
        call    put
        pop     %ax
        loop    1b
        ret

end_line:
        mov     $newline, %si
say:    lodsb
        test    %al, %al
        jz      1f
        call    put
        jmp     say
1:      ret

put:    push    %ax
        mov     $SERIAL + 5, %dx
1:      in      %dx, %al
        test    $0x20, %al
        jz      1b
        pop     %ax
        mov     $SERIAL, %dx
        out     %al, %dx
        ret

found:  .asciz  "found a="
and_b:  .asciz  " b="
tick:   .asciz  "tick "
token:  .asciz  " token "
prefix: .asciz  "0x"
disagree:
        .asciz  "DISAGREE disk: it has "
failed: .asciz  "FAILED disk\n"
newline:
        .asciz  "\n"

        .org    510
        .word   0xaa55
