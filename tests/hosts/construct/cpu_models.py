"""What /proc/cpuinfo says of the processors in constructed hosts: (field, value) in the kernel's order."""

from typing import Final

_X86: Final = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx "
    "pdpe1gb rdtscp lm constant_tsc rep_good nopl nonstop_tsc cpuid pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 "
    "x2apic movbe popcnt aes xsave avx f16c rdrand lahf_lm abm 3dnowprefetch fsgsbase bmi1 avx2 smep bmi2 erms "
    "invpcid rdseed adx smap clflushopt clwb sha_ni xsaveopt xsavec xgetbv1 xsaves umip vaes vpclmulqdq rdpid fsrm"
)
_AVX512: Final = (
    "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg "
    "avx512_vpopcntdq avx512_bf16 gfni"
)
_INTEL: Final = (
    "dts acpi ss tm pbe arch_perfmon pebs bts xtopology tsc_known_freq dtes64 monitor ds_cpl vmx smx est tm2 pdcm "
    "tsc_deadline_timer cat_l3 cdp_l3 mba ibrs ibpb stibp ibrs_enhanced rdt_a intel_pt hwp hwp_act_window hwp_epp "
    "pku ospke waitpkg md_clear arch_capabilities"
)
_AMD: Final = (
    "mmxext fxsr_opt extd_apicid aperfmperf rapl cmp_legacy svm extapic cr8_legacy sse4a misalignsse osvw ibs "
    "topoext perfctr_core perfctr_nb perfctr_llc cpb cat_l3 cdp_l3 hw_pstate ssbd mba ibrs ibpb stibp vmmcall "
    "rdt_a clzero irperf xsaveerptr rdpru wbnoinvd npt lbrv nrip_save overflow_recov succor smca"
)


def _x86(
    vendor: str, family: int, model: int, name: str, stepping: int, microcode: str, **more: str
) -> dict[str, str | int]:
    return {
        "vendor_id": vendor,
        "cpu family": family,
        "model": model,
        "model name": name,
        "stepping": stepping,
        "microcode": microcode,
        "cpu MHz": more["mhz"],
        "cache size": more["cache"],
        "fpu": "yes",
        "wp": "yes",
        "flags": more["flags"],
        "bugs": more["bugs"],
        "clflush size": 64,
        "address sizes": more["sizes"],
    }


SAPPHIRE_RAPIDS: Final = _x86(
    "GenuineIntel", 6, 143, "Intel(R) Xeon(R) Platinum 8480C", 8, "0x2b000603",
    mhz="2000.000", cache="107520 KB", flags=f"{_X86} {_INTEL} {_AVX512} amx_bf16 amx_tile amx_int8 enqcmd la57",
    bugs="spectre_v1 spectre_v2 spec_store_bypass swapgs eibrs_pbrsb bhi",
    sizes="52 bits physical, 57 bits virtual",
)  # fmt: skip
ICE_LAKE: Final = _x86(
    "GenuineIntel", 6, 106, "Intel(R) Xeon(R) Gold 6346 CPU @ 3.10GHz", 6, "0xd0003e7",
    mhz="3100.000", cache="36864 KB", flags=f"{_X86} {_INTEL} {_AVX512}",
    bugs="spectre_v1 spectre_v2 spec_store_bypass swapgs mmio_stale_data eibrs_pbrsb gds bhi",
    sizes="46 bits physical, 57 bits virtual",
)  # fmt: skip
MILAN: Final = _x86(
    "AuthenticAMD", 25, 1, "AMD EPYC 7763 64-Core Processor", 1, "0xa0011d5",
    mhz="2450.000", cache="512 KB", flags=f"{_X86} {_AMD}",
    bugs="sysret_ss_attrs spectre_v1 spectre_v2 spec_store_bypass srso",
    sizes="48 bits physical, 48 bits virtual",
)  # fmt: skip
GENOA: Final = _x86(
    "AuthenticAMD", 25, 17, "AMD EPYC 9454P 48-Core Processor", 1, "0xa101148",
    mhz="2750.000", cache="1024 KB", flags=f"{_X86} {_AMD} {_AVX512} vnmi la57",
    bugs="sysret_ss_attrs spectre_v1 spectre_v2 spec_store_bypass srso",
    sizes="52 bits physical, 57 bits virtual",
)  # fmt: skip
MILAN_GUEST: Final = _x86(
    "AuthenticAMD", 25, 1, "AMD EPYC 7R13 Processor", 1, "0xa0011d1",
    mhz="3599.988", cache="512 KB",
    flags=f"{_X86} mmxext fxsr_opt hypervisor cmp_legacy cr8_legacy sse4a misalignsse topoext ssbd ibrs ibpb stibp "
    "vmmcall clzero xsaveerptr rdpru wbnoinvd npt nrip_save",
    bugs="sysret_ss_attrs null_seg spectre_v1 spectre_v2 spec_store_bypass srso",
    sizes="48 bits physical, 48 bits virtual",
)  # fmt: skip
GRACE: Final[dict[str, str | int]] = {
    "BogoMIPS": "2000.00",
    "Features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc "
    "dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes "
    "svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh",
    "CPU implementer": "0x41",
    "CPU architecture": 8,
    "CPU variant": "0x0",
    "CPU part": "0xd4f",
    "CPU revision": 0,
}
