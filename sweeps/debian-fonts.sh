#!/bin/sh
# Installs Debian's packages of Latin fonts, for font-transfer on more fonts than matplotlib ships:
#
#     sh sweeps/debian-fonts.sh            # says what it would install
#     sh sweeps/debian-fonts.sh install    # as root
#     python sweeps/reproduce.py font-transfer --data /usr/share/fonts
set -eu

packages="
fonts-3270 fonts-adf-accanthis fonts-adf-baskervald fonts-adf-berenis fonts-adf-gillius fonts-adf-ikarius
fonts-adf-irianis fonts-adf-libris fonts-adf-mekanus fonts-adf-oldania fonts-adf-romande fonts-adf-solothurn
fonts-adf-switzera fonts-adf-tribun fonts-adf-universalis fonts-adf-verana fonts-aenigma fonts-agave fonts-allerta
fonts-anonymous-pro fonts-arapey fonts-averia-gwf fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-b612
fonts-babelstone-modern fonts-bebas-neue fonts-beteckna fonts-blankenburg fonts-cabin fonts-cabinsketch
fonts-campania fonts-cantarell fonts-cardo fonts-century-catalogue fonts-cherrybomb fonts-clear-sans fonts-cmu
fonts-comfortaa fonts-comic-neue fonts-compagnon fonts-courier-prime fonts-croscore fonts-crosextra-caladea
fonts-crosextra-carlito fonts-dancingscript fonts-dejavu-core fonts-dejavu-extra fonts-dkg-handwriting fonts-dosis
fonts-dustin fonts-ebgaramond fonts-ecolier-court fonts-elstob fonts-essays1743 fonts-eurofurence
fonts-evertype-conakry fonts-f500 fonts-fantasma fonts-fantasque-sans fonts-fanwood fonts-femkeklaver fonts-firacode
fonts-freefont-ttf fonts-georgewilliams fonts-gfs-artemisia fonts-gfs-didot fonts-gfs-neohellenic fonts-go
fonts-goudybookletter fonts-hack fonts-havana fonts-hermit fonts-humor-sans fonts-inconsolata fonts-inter
fonts-isabella fonts-jetbrains-mono fonts-johnsmith-induni fonts-joscelyn fonts-junction fonts-junicode fonts-jura
fonts-karla fonts-karmilla fonts-kaushanscript fonts-klaudia-berenika fonts-kristi fonts-lato fonts-le-murmure
fonts-league-mono fonts-league-spartan fonts-leckerli-one fonts-levien-museum fonts-levien-typoscript
fonts-liberation fonts-lindenhill fonts-linex fonts-linuxlibertine fonts-lmodern fonts-lobster fonts-lobstertwo
fonts-manrope fonts-millimetre fonts-mona fonts-monofur fonts-monoid fonts-mononoki fonts-mplus fonts-national-park
fonts-noto-core fonts-noto-mono fonts-ocr-a fonts-ocr-b fonts-okolaks fonts-oldstandard fonts-open-sans
fonts-opendin fonts-opendyslexic fonts-opensymbol fonts-osifont fonts-oxygen fonts-paratype fonts-pc fonts-play
fonts-prociono fonts-quattrocento fonts-quicksand fonts-radisnoir fonts-roadgeek fonts-roboto-slab
fonts-roboto-unhinted fonts-routed-gothic fonts-rufscript fonts-sil-andika fonts-sil-charis fonts-sil-doulos
fonts-sil-gentium fonts-sil-gentium-basic fonts-sjfonts fonts-smiley-sans fonts-solide-mirage fonts-sora
fonts-staypuft fonts-stix fonts-summersby fonts-texgyre fonts-tiresias fonts-tlwg-loma-ttf fonts-tomsontalks
fonts-tuffy fonts-ubuntu-title fonts-urw-base35 fonts-vollkorn fonts-yanone-kaffeesatz fonts-yrsa-rasa
"

echo "Debian packages of fonts:" $packages
if [ "${1:-}" = install ]; then
    apt-get install -y --no-install-recommends $packages
fi
