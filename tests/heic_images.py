"""HEIC files of one picture of 48x32, made once with libheif and x265: no encoder is among the dependencies. One AVIF.

The picture is red at the left below, green at the left above and blue at the right.
"""

from __future__ import annotations

import zlib
from base64 import b85decode

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def _decode(text: str) -> bytes:
    return b85decode(text.replace("\n", ""))


#: RGB.
PLAIN = _decode(
    r"""
0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE07O6l
0RRC200001p#T8@00000005)_001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}X>f9I0002pX>en20001X
Xm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00RI30{|YNAb|yz>g1-m
xCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RFaQ7m0RR91AOHXW
0ssI1@Bjb+0{{R2-~a#s0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7fdT^sga7~ltZigrbN~PVpeO;a1~}vAz3bMHfB*V<cmMog
s3Gu4H~QAz`}X7;e~XGJ?6;|3di}8YAAkO%8ukk9$>09q<GWp>XGA491!of?N#*j$J3;q{1N&R)A?C~i|Betv2lP!;JFlN1)mNy=W8cJObahz^
Xb*k0+-{hgDN&XCE!G`HJHqE$N)~`EdA|rkBba75GV|9SWwF&%&Y5sN<OFJZ#zwcO_y
"""
)

#: As a telephone makes it that is held upright: the pixels lie on their side, and it is told to turn them.
TURNED = _decode(
    r"""
0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0005VZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&aV*mgE07O6l
0ssL300001>;M4(00000005)_0ssI200NKz0RR9100000Bme*aIB98aW&i*H00062000$fZf0cy000000RRAKc4ILB0000LX>Mj^0ssI300IC2
MR;ju000004sdC7Z2$lO00031009SSaB^?}008D`aAR)(004Gqc4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT0RR|40Sp2E{{wIU00RJ!00093
00RIXx&lC90096hLID8-Z~y=U0FVFx0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000K
X>)L8000000000$0000$0000eV{Bn?0000m000010000W00001|NsB+00002|NsBs000020000GaA|mH000000|*ER00009X>xCL0{{R38EJ5B
VE_OC000000RRC8fdT^sgoXeB02*m>Wo7^X0000001jhhb7KGk009620002cZDe6|0001>C;_hqIOFHN>(-Ee|N41%|NLO6A@E5z`qtk2_T(FX
i;5`hx2a!x{jm5SfBvHy_6qIE-~Qm^yIrGaL?t){XA>ex<?_foLHCCP`&;QD=F9^Bju1r$^i5Pdub&~+SE$Kj-^68fby*8&4}G=VZkU@XQI-2G
)*VGV!sl8_7Jw~zzX(Djm}WRK^Vc3_vDH-0nQ%Vj1ZsN5Mz^T=00006MR;ju002!*04e|g00;m90TKWM0000100sa600000
"""
)

#: The lower half is transparent.
ALPHA = _decode(
    r"""
0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0007OZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&aV*mgE07O6l
0ssL300002j{pGx00000005)_0ssI200T1s0RR91000015C8xGIB98aW&i*H00062000$fZf0cy000000RRAKc4ILB0000LX>Mj^0ssI200IC2
Xm(>U000004sdC7Z2$lO0003100F9LaB^?}00Dw&aAR)(004Gqc4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT0RR|40Sp2E{{wIU00RJ!00093
00RIXx&lC90096hLID8-Z~y=U0FVFx0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000K
X>)L8000000000$0000$0000eV{Bn?0000m000010000W00001|NsB+00002|NsBs000020000GaA|mH000000|*ER0001RXm(>m0R#vD005u(
000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC90096cLID8;2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z
00u+>!E?Zg0000EaA|mH000000SEv904HH}ctZdH004DzZaQsnWoJ5QWp-maGB7bUI$?EqX=FMv00000AZc)IVE_OC000000ssL8fdT^sga85s
h64wPga7~l8fkK6W&i*H000004q<h8YybiP0RRC200F#hWMOmw005vU0j~x)<LABW){uYy`gwQ%{9vdd@JToN*53Q}<QspBiYV;2sb6~iu=pQ;
{-YZ93hl|?{@~-gU8842B{&6V6Cz3F^2j?u_lE=fTj?R@%mV+85Jd;{O;kItpCQ#(sL5mB#AS4KSqo?neYM<fn42k4mHRE$9Ys6B=UPe@fGv5y
2tp&6W;inQ*B)iD)l|-za6aS&YI?>-x2X64009gr0j>;ibm^A=gM<n5yZ@3pQirGeFBZGzsd}?0cvO51OB!y64F9K2P6{!M7nwf&xAD#=V<#Qu
QU5DqzO<9lj22`mypxE6y2Nq+%xgsa*`q9$+A)HY;{xwFJ;R>3lW{7j5?I{NgSC@J?=`lg38(%5f7fkVD#~c@kD@~goar*M$>SgH@A$=+nneC%
er+W-X)1FtV*l)a_q{)hypVCV4+ZrKd8Ub9@CnDTmK1UqL`?d>w+D*O%Fn@{_igLiXGq0$DYw=ZJ1*@tnZNcIxxEdvY9JWB1(AAgoW}Tq|J`RR
CV2oYgl42vb?lCGygt9qcA&9Dh7zEAu^ZQ9DG%bVmub8
"""
)

#: The red channel of the picture, as grey.
GREY = _decode(
    r"""
0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0004XZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE07O6l
0RRC200001nE(L*00000006ZB001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002>X>f9I0002hX>en20001R
Xm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC90096cLID8;2mk;B0H62(00RI39>9VG7F(;5n&!ZO
000bt00093gkk^z00u+>!E?Zg0000JV{dG7ZewhC0096E00w{n000zeb8uw<00000002M$002M$001asY+-N!001xm00031001BW00061|Nrm+
00092|Nr0s00062000hfX?SS>000012mk;87-?{AVE_OC000000RRC7fdT^sga7~ly=`P+bN~PVu_ytq3~+Sm!vABU3G;3La*Efs@BZDcSkU6{
6TN>uJ7F>ZWe4kh_Mi70{)F-bP&-;U3+@HVA4XO>LqC{-dBL=IJVI?ezTgVuB}3?I^S5{=>|@xw-(ZkBdKHm`x>G7vX8w=-KacI;xaAyd=*R{&
6a{m{#b@1B?rA4)VMI0&3jZZut0Mjrv3+ZcL%bWa!AQ{iq!RD{5f+~08WNjjAPWrDRfRut&0R1?LBI
"""
)

#: An AVIF of 16x16 pixels, as it says; its one frame has 14000x14000.
AVIF_OF_A_HUGE_FRAME = zlib.decompress(
    _decode(
        r"""
c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^nKdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`@fjhajKT~I+^s;iMrLMS
8eFXukdw*;<t3IG7&_<Y<b&<X$}A`<0Mg!>1<Cn9S|qc$AQft#01OvoR%C(%m^nB&fD}(+nW1x|JP$}nI5|J3C@(pu0%$TX16u=7NIbJ37v?9R
!&n%ZnpuFZ>dj3_ED>Vh;+Fqjw*J=MMNCq>97dnTgdZgzK5W#;BH*t8)a-x$T;N*GCsMbLCMd=myjgLkK=bT`g_>UfHQD%D7FlIAU*LG)wEB}{
jKaOk$D^kjyQYMny3(a)k{lH1mwQb1C*M@<(<=`K)Xi-ASt;|x+Hz0e`EwEFOrM|Eg}BeS?r3rM+QN-m)~(AwZn(cNHf@$c)4#aqtg&y_CTP2D
xb@Lyf;vao-5c)yUXBlzrzEd`c=&<Q$?o5u6<0gn)9f{$Z({2GY~BtU7@1Cjk>3K`%O^0}_r>n^laT#3;q2dxBOfFd86Hu#uhkdbKTBBcg#8`a
!w-rUY`8z~*HNkezg8A&*;}1<?)cBV$$V%8$7l$ThVW<zkB0DQ2#<#FXb2D15YDEa+bsox*7Fq{?p0t3T=+oW;k3`Kg7C-BJ1TT?FU~5>QsD4s
8NQa$HoEj$7Oj4l?SKFAGPRG2cM?xd__k*U0ISkFWB
"""
    )
)
