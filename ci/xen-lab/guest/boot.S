# The HVM guest of the lab: one sector, which the BIOS boots from its first disk. As init.c it counts, writes each count to
# both disks, remembers it, and compares before it goes on; it says the same on the first serial port, with numbers
# in hexadecimal.

        .set    OURS, 0x8000            # the sector as it is written
        .set    SEEN, 0x8200            # the sector as it was read
        .set    COUNT, OURS + 4
        .set    TOKEN, OURS + 8
        .set    CLOCK, 0x46c            # the BIOS counts here, 18.2 times a second
        .set    SERIAL, 0x3f8
        .set    DISK_A, 0x80
        .set    DISK_B, 0x81

        .code16
        .globl  _start
_start: cli
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        cld
        mov     $OURS, %di
        mov     $512, %cx
        rep stosw
        movl    $0x62616c78, OURS       # "xlab"
        sti

        mov     $found, %si
        call    say
        mov     $DISK_A, %dl
        call    count_on
        mov     $and_b, %si
        call    say
        mov     $DISK_B, %dl
        call    count_on
        call    end_line
        movl    CLOCK, %eax
        movl    %eax, TOKEN
        jmp     go_on

again:  mov     $DISK_A, %dl
        call    compare
        mov     $DISK_B, %dl
        call    compare
go_on:  incl    COUNT
        mov     $DISK_A, %dl
        call    write
        mov     $DISK_B, %dl
        call    write
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

# The second sector of disk dl.
write:  mov     $0x0301, %ax
        mov     $OURS, %bx
        jmp     1f
read:   mov     $0x0201, %ax
        mov     $SEEN, %bx
1:      mov     $0x0002, %cx
        mov     $0, %dh
        int     $0x13
        jnc     1f
        mov     $failed, %si
        call    say
1:      ret

count_on:
        call    read
        movl    SEEN + 4, %eax
        jmp     say_number

compare:
        call    read
        mov     $OURS, %si
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
